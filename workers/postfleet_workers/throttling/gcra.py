"""The generic cell rate algorithm (ITU-T I.371) on whole microseconds. Pure; `acquire.lua` does the same in Redis.

A limit's whole state is one number, the theoretical arrival time (TAT): when its bucket would be full again. Every
permit moves it one `interval` on; a permit is free while TAT stays within `depth = burst * interval` from now.

Why no window ever holds more than `count`: from the first permit in it at s to the last at e, TAT moves from at least
s to at most e + depth, so there are at most burst + (e - s) / interval of them, and `bucket` chooses an interval just
above window / (count - burst + 1). Because a permit may be used up to a second after it was granted, the window
reckoned with is that much longer (a 60th of it, at most a second): the limit holds where it is felt, at the receiver.

Permits may be given back: at once where they were not used, minutes later where they were reserved and the mail was not
accepted. Lowering TAT by so much would be wrong: time that has passed meanwhile would count twice, and the longer
permits lie about, the more could go out at once. So what was taken lately is remembered, and TAT is reckoned anew
without what was given back (`retake`): a window then holds no more than it would had that never been taken.

Redis may forget. `since` is when it may have: a bucket counts as empty then, so forgetting never buys a permit. A
limit seen for the first time starts with one permit instead of a burst.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache

SECOND_US = 1_000_000
BURST_PERCENT = 3


@dataclass(frozen=True, slots=True)
class Bucket:
    """`burst` permits at once, then one every `interval_us` microseconds."""

    burst: int
    interval_us: int

    @property
    def depth_us(self) -> int:
        """How far TAT may be ahead of now; the time to fill an empty bucket."""
        return self.burst * self.interval_us


@dataclass(frozen=True, slots=True)
class Verdict:
    """How many are granted; if fewer than asked for, the position of the limit that bound and when one more may go."""

    granted: int
    bound: int | None = None
    retry_us: int | None = None


@cache
def bucket(count: int, window_seconds: float) -> Bucket:
    """The bucket that keeps to `count` per window. Intervals are whole: above 10,000 a second some is left unused."""
    burst = max(1, count * BURST_PERCENT // 100)
    return Bucket(burst, reckoned_window_us(window_seconds) // (count - burst + 1) + 1)


def reckoned_window_us(window_seconds: float) -> int:
    """The window, longer by the time that a permit may lie unused."""
    window = round(window_seconds * SECOND_US)
    return window + min(SECOND_US, window // 60)


def reckon(stored: int | None, since: int | None, now: int, of: Bucket) -> int:
    """TAT to reckon with at `now`: between now (the bucket is full) and now + depth (it is empty).

    Args:
        stored: what Redis holds; None if it holds nothing.
        since: when Redis may have forgotten; None if it never did while workers lived.
        now: server time.
        of: the bucket. A TAT from before its limit was raised, or the clock set back, counts as empty.
    """
    tat = now + of.depth_us - of.interval_us if stored is None else stored
    if since is not None:
        tat = max(tat, since + of.depth_us)
    return min(max(tat, now), now + of.depth_us)


@dataclass(frozen=True, slots=True)
class Take:
    """`n` permits taken `at` (server time) when TAT was reckoned to be `before`."""

    at: int
    n: int
    before: int


def retake(takes: Sequence[Take], n: int, at: int, since: int | None, of: Bucket) -> tuple[list[Take], int] | None:
    """Takes, and TAT after them, had `n` permits less been taken `at`; None if nothing of that is remembered."""
    less = list(takes)
    first = None
    for i in reversed(range(len(less))):
        if n > 0 and less[i].at == at and less[i].n > 0:
            first, back = i, min(n, less[i].n)
            less[i], n = replace(less[i], n=less[i].n - back), n - back
    if first is None:
        return None
    tat = less[first].before
    for i, take in enumerate(less[first:], first):
        tat = reckon(tat, since if since is not None and since <= take.at else None, take.at, of)
        less[i] = replace(take, before=tat)
        tat += take.n * of.interval_us
    return less, tat


def admit(tats: Sequence[int], buckets: Sequence[Bucket], n: int, until: int) -> Verdict:
    """How many of `n` every bucket permits until then (now: at once). `tats` come from `reckon`."""
    pairs = list(zip(tats, buckets, strict=True))
    granted = min([n, *((until + b.depth_us - tat) // b.interval_us for tat, b in pairs)])
    if granted >= n:
        return Verdict(n)
    ready = [tat + (granted + 1) * b.interval_us - b.depth_us for tat, b in pairs]
    return Verdict(granted, ready.index(max(ready)), max(ready))
