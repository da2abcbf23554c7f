"""What GCRA promises, over the in-memory limiter: never too many in any window, nearly all of them under load."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.throttling.gcra import Bucket, bucket, reckon, reckoned_window_us
from postfleet_workers.throttling.limiter import NO_EPOCH, Admission
from postfleet_workers.throttling.limits import Limit
from postfleet_workers.throttling.memory import MemoryLimiter

START = 1_800_000_000.0
WINDOWS = st.sampled_from([1.0, 10.0, 60.0, 3600.0, 86_400.0])


class Clock:
    """Server time in whole microseconds."""

    def __init__(self) -> None:
        self.us = round(START * 1e6)

    def __call__(self) -> float:
        return self.us / 1e6

    def reach(self, seconds: float) -> None:
        self.us = max(self.us, round(seconds * 1e6))


def world() -> tuple[Clock, MemoryEpoch, MemoryLimiter]:
    clock = Clock()
    epoch = MemoryEpoch(clock)
    return clock, epoch, MemoryLimiter(epoch)


def limit(count: int, window_seconds: float = 60.0, name: str = "node acme-1 per_minute") -> Limit:
    return Limit(f"postfleet:limit:{name}", name, count, window_seconds)


def greedily(limiter: MemoryLimiter, clock: Clock, limits: tuple[Limit, ...], n: int, until: float) -> Iterator[int]:
    """Take whatever is granted as soon as it is, until `n` are taken or the time has come; yields each grant."""
    while n > 0:
        admission = limiter.acquire(limits, n)
        n -= admission.granted
        yield admission.granted
        if admission.retry_at is None or admission.retry_at > until:
            return
        clock.reach(admission.retry_at)


@pytest.mark.parametrize(
    ("count", "seconds", "burst"),
    [
        pytest.param(1, 60.0, 1, id="one a minute"),
        pytest.param(20, 86_400.0, 1, id="a warmup's first day"),
        pytest.param(100, 60.0, 3, id="a hundred a minute"),
        pytest.param(600_000, 60.0, 18_000, id="ten thousand a second"),
    ],
)
def test_a_burst_is_at_most_a_few_percent_of_the_limit(count, seconds, burst):
    of = bucket(count, seconds)
    assert of.burst == burst
    assert of.burst <= max(1, 0.04 * count)
    assert of.burst + reckoned_window_us(seconds) // of.interval_us <= count


@settings(max_examples=300, deadline=None)
@given(
    count=st.integers(1, 12) | st.integers(60, 80) | st.integers(100, 120),
    seconds=WINDOWS,
    idle=st.sampled_from([0.0, 0.1, 1.0, 3.0]),
    late_until=st.floats(0, 2),
    fault_rate=st.sampled_from([0.0, 0.02, 0.3]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_window_ever_holds_more_than_the_limit_whatever_redis_forgets(
    count, seconds, idle, late_until, fault_rate, seed
):
    """Three windows of asking for more than there is. Permits of the first part are used as late as allowed."""
    chance = Random(seed)
    clock, epoch, limiter = world()
    limits = (limit(count, seconds),)
    window = round(seconds * 1e6)
    slack = min(1_000_000, window // 60)
    limiter.acquire(limits, 1)
    used = [clock.us]
    clock.us += round(idle * window)
    start, end = clock.us, clock.us + 3 * window
    while clock.us < end:
        backup = dict(epoch.room("limits"))
        admission = limiter.acquire(limits, chance.choice([1, count, 2 * count]))
        back = admission.granted if chance.random() < 0.1 else 0
        limiter.give_back(limits, back, admission.at)
        late = slack if clock.us < start + late_until * window else 0
        used += [clock.us + late] * (admission.granted - back)
        if chance.random() < fault_rate:
            if chance.random() < 0.5:
                epoch.flush()
            else:
                epoch.restart()
                epoch.room("limits").update(backup)  # the append-only file had lost its end
            assert limiter.acquire(limits, 1).granted == 0
            clock.us += chance.choice([0, 1, slack // 2])
            epoch.keep(live_workers=True)
        elif admission.retry_at and chance.random() < 0.95:
            clock.reach(admission.retry_at)
        else:
            clock.us += chance.choice([1, window // count])
    used.sort()
    worst = min((later - first for first, later in zip(used, used[count:], strict=False)), default=window + 1)
    assert worst > window


@settings(max_examples=40, deadline=None)
@given(count=st.integers(50, 2000) | st.integers(50, 200_000), seconds=st.sampled_from([60.0, 3600.0, 86_400.0]))
def test_under_saturation_more_than_95_percent_of_a_limit_is_used(count, seconds):
    clock, _, limiter = world()
    limits = (limit(count, seconds),)
    windows = [0] * 4
    while (at := int((clock() - START) // seconds)) < len(windows):
        admission = limiter.acquire(limits, count)
        windows[at] += admission.granted
        later = clock.us + round(seconds * 1e4)
        clock.us = max(later, round((admission.retry_at or 0.0) * 1e6))
    assert all(0.95 * count < used <= count for used in windows[1:]), windows


def test_a_limit_seen_for_the_first_time_starts_with_one():
    _, _, limiter = world()
    first = limiter.acquire((limit(100),), 50)
    assert first.granted == 1
    assert first.bound == "node acme-1 per_minute"


def test_an_idle_limit_collects_a_burst():
    clock, _, limiter = world()
    limiter.acquire((limit(100),), 1)
    clock.us += 30_000_000
    assert limiter.acquire((limit(100),), 50).granted == 3


def test_asking_again_at_retry_at_is_granted_and_a_microsecond_before_is_not():
    clock, _, limiter = world()
    limits = (limit(100),)
    retry_at = limiter.acquire(limits, 5).retry_at
    assert retry_at is not None
    clock.us = round(retry_at * 1e6) - 1
    assert limiter.acquire(limits, 5).granted == 0
    clock.us += 1
    assert limiter.acquire(limits, 5).granted == 1


def test_of_several_limits_none_is_taken_in_vain():
    _clock, epoch, limiter = world()
    wide, narrow = limit(6000, name="tenant acme per_minute"), limit(60)
    assert limiter.acquire((wide, narrow), 10).granted == 1
    before = dict(epoch.room("limits"))
    refused = limiter.acquire((wide, narrow), 10)
    assert (refused.granted, refused.bound) == (0, "node acme-1 per_minute")
    assert dict(epoch.room("limits")) == before


def test_without_limits_everything_is_granted():
    _, epoch, limiter = world()
    epoch.flush()
    assert limiter.acquire((), 7) == Admission(7)
    assert limiter.peek_many([((), 7)], 2.0) == [Admission(7)]
    assert limiter.acquire((limit(1),), 0) == Admission(0)


def test_after_a_flush_nothing_is_granted_until_the_relay_has_begun_an_epoch():
    _clock, epoch, limiter = world()
    epoch.flush()
    assert limiter.acquire((limit(100),), 5) == Admission(0, START + 1, NO_EPOCH, 1.0)
    assert limiter.peek_many([((limit(100),), 5)], 60.0) == [Admission(0, START + 1, NO_EPOCH, 1.0)]


def test_a_raised_limit_is_not_bound_by_the_old_one():
    clock, _, limiter = world()
    assert limiter.acquire((limit(1, 86_400.0),), 1).granted == 1
    clock.us += 100_000_000
    assert limiter.acquire((limit(1, 86_400.0),), 1).granted == 0
    assert limiter.acquire((limit(864, 86_400.0),), 1).retry_at < clock() + 110


def test_a_clock_set_back_holds_nobody_for_longer_than_an_empty_bucket():
    of = Bucket(burst=3, interval_us=1000)
    assert reckon(stored=10_000_000, since=None, now=5_000_000, of=of) == 5_003_000
    assert reckon(stored=None, since=10_000_000, now=5_000_000, of=of) == 5_003_000


@settings(deadline=None)
@given(
    count=st.integers(1, 500), seconds=WINDOWS, idle=st.floats(0, 2), asked=st.integers(1, 30), n=st.integers(1, 600),
    horizon=st.floats(0, 1.5),
)  # fmt: skip
def test_peek_tells_what_acquire_grants_over_time_and_takes_nothing(count, seconds, idle, asked, n, horizon):
    clock, epoch, limiter = world()
    limits = (limit(count, seconds),)
    limiter.acquire(limits, asked)
    clock.us += round(idle * seconds * 1e6)
    before = dict(epoch.room("limits"))
    until = clock() + round(horizon * seconds * 1e6) / 1e6
    (seen,) = limiter.peek_many([(limits, n)], until - clock())
    assert dict(epoch.room("limits")) == before
    assert sum(greedily(limiter, clock, limits, n, until)) == seen.granted
    assert (seen.retry_at is None) == (seen.granted == n)


LIMITS = st.lists(
    st.builds(lambda name, count, seconds: limit(count, seconds, name), st.sampled_from("abc"), st.integers(1, 300),
              st.sampled_from([10.0, 60.0, 600.0])),
    min_size=1, max_size=3, unique_by=lambda each: each.key,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    limits=LIMITS, warm=st.lists(st.tuples(st.floats(0, 20), st.integers(1, 9)), max_size=4), horizon=st.floats(0, 90)
)
def test_over_several_limits_peek_is_never_below_and_hardly_above_what_acquire_grants(limits, warm, horizon):
    clock, _, limiter = world()
    for gap, n in warm:
        clock.us += round(gap * 1e6)
        limiter.acquire(limits[: n % len(limits) + 1], n)
    until = clock() + round(horizon * 1e6) / 1e6
    (seen,) = limiter.peek_many([(limits, 500)], until - clock())
    granted = sum(greedily(limiter, clock, tuple(limits), 500, until))
    assert granted <= seen.granted <= granted + len(limits) - 1


@settings(deadline=None)
@given(
    count=st.integers(1, 300),
    seconds=WINDOWS,
    gaps=st.lists(st.floats(0, 0.2), min_size=3, max_size=20),
    n=st.integers(1, 20),
)
@pytest.mark.parametrize("reserved", [False, True])
def test_what_is_given_back_is_as_if_never_taken(reserved, count, seconds, gaps, n):
    limits = (replace(limit(count, seconds), reserved=reserved),)
    clock, _, limiter = world()
    other_clock, _, other = world()
    for each in (limiter, other):
        each.acquire(limits, 1)
    for step, gap in enumerate(gaps):
        clock.us += round(gap * seconds * 1e6)
        other_clock.us = clock.us
        if step % 3 == 0:
            taken = limiter.acquire(limits, n)
            limiter.give_back(limits, taken.granted, taken.at)
        else:
            assert limiter.acquire(limits, n) == other.acquire(limits, n)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 12) | st.integers(60, 200),
    unused=st.sampled_from([0.1, 0.5, 0.9]),
    held_until=st.floats(0, 2),
    longest=st.sampled_from([0.1, 1.0, 4.0, 20.0, 120.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_window_ever_holds_more_than_the_limit_however_long_permits_lay_unused(
    count, unused, held_until, longest, seed
):
    """Bundles ask for more than they use, and give the rest back late, all at once; then everybody uses all."""
    chance = Random(seed)
    clock, _, limiter = world()
    limits, window = (limit(count),), 60_000_000
    used: list[int] = []
    held: list[tuple[int, int, int]] = []  # when they are given back, how many, when they were taken
    start, end = clock.us, clock.us + 3 * window
    while clock.us < end:
        for back, n, at in sorted(held):
            if back <= clock.us:
                limiter.give_back(limits, n, at)
                held.remove((back, n, at))
        admission = limiter.acquire(limits, chance.choice([1, 3, count]))
        idle = admission.granted if clock.us < start + held_until * window and chance.random() < unused else 0
        if idle:
            held.append((clock.us + round(chance.random() * longest * 1e6), idle, admission.at))
        used += [clock.us] * (admission.granted - idle)
        soonest = [back / 1e6 for back, *_ in held] + [admission.retry_at or clock()]
        clock.us += chance.choice([1, window // (3 * count)])
        clock.reach(min(soonest))
    worst = min((b - a for a, b in zip(used, used[count:], strict=False)), default=window + 1)
    assert worst > window


def test_what_was_forgotten_cannot_be_given_back():
    _, epoch, limiter = world()
    limits = (limit(100), replace(limit(100, name="warmup"), reserved=True))
    taken = limiter.acquire(limits, 1)
    epoch.flush()
    epoch.keep(live_workers=True)
    limiter.give_back(limits, 50, taken.at)
    assert limiter.acquire(limits, 50).granted == 0


def warmup(cap: int, seconds: float = 86_400.0) -> tuple[Limit, ...]:
    return (Limit("postfleet:limit:warmup:acme-1:day", "node acme-1 warmup", cap, seconds, reserved=True),)


@settings(max_examples=300, deadline=None)
@given(
    cap=st.integers(1, 12) | st.integers(60, 120),
    refused=st.sampled_from([0.1, 0.5, 0.9, 1.0]),
    kind_after=st.floats(0, 2),
    latest=st.sampled_from([0.0, 1.0, 60.0, 900.0, 1800.0]),
    fault_rate=st.sampled_from([0.0, 0.02]),
    seed=st.integers(0, 2**32 - 1),
)
def test_no_window_ever_has_more_accepted_than_the_cap_whenever_the_rest_is_given_back(
    cap, refused, kind_after, latest, fault_rate, seed
):
    """Two windows in which a part is refused and given back late; the receiver becomes kind on the way."""
    chance = Random(seed)
    clock, epoch, limiter = world()
    seconds = 7200.0  # few enough takes for a test; what is given back late is all the more of them
    limits, window = warmup(cap, seconds), round(seconds * 1e6)
    accepted: list[int] = []
    owed: list[tuple[int, int]] = []  # when it is given back, when it was taken
    start, end = clock.us, clock.us + 3 * window
    while clock.us < end:
        for back, at in sorted(owed):
            if back <= clock.us:
                limiter.give_back(limits, 1, at)
                owed.remove((back, at))
        admission = limiter.acquire(limits, chance.choice([1, 2, cap]))
        for _ in range(admission.granted):
            if chance.random() < refused and clock.us < start + kind_after * window:
                owed.append((clock.us + round(chance.random() * latest * 1e6), admission.at))
            else:
                accepted.append(clock.us)
        if chance.random() < fault_rate:
            epoch.flush()
            epoch.keep(live_workers=True)
        soonest = [back / 1e6 for back, _ in owed] + [admission.retry_at or clock()]
        clock.us += chance.choice([1, window // (3 * cap)])
        clock.reach(min(soonest))
    worst = min((b - a for a, b in zip(accepted, accepted[cap:], strict=False)), default=window + 1)
    assert worst > window


def test_what_was_refused_at_once_does_not_count_for_a_reserved_limit():
    clock, _, limiter = world()
    taken = 0
    while clock() < START + 86_400:
        admission = limiter.acquire(warmup(50), 1)
        taken += admission.granted
        clock.us += 60_000_000
        limiter.give_back(warmup(50), admission.granted, admission.at)
    assert taken == 1440  # each minute one was tried, and none accepted


def test_of_a_reserved_limit_each_permit_is_given_back_once_and_not_for_ever():
    clock, _, limiter = world()
    first = limiter.acquire(warmup(50), 1)
    assert limiter.acquire(warmup(50), 1).granted == 0
    for _ in range(3):
        limiter.give_back(warmup(50), 1, first.at)
    assert [limiter.acquire(warmup(50), 1).granted for _ in range(2)] == [1, 0]
    at = clock.us
    clock.us += 901_000_000
    limiter.give_back(warmup(50), 1, at)
    assert limiter.acquire(warmup(50), 1).granted == 0


def test_waiting_for_retry_at_spaces_permits_evenly():
    clock, _, limiter = world()
    times = [clock() for _ in greedily(limiter, clock, (limit(60),), 20, START + 60)]
    assert max(b - a for a, b in pairwise(times)) < 61 / 60 + 1e-3
