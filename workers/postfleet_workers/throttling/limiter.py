"""Admission: one atomic answer to 'how many of these may go out now?'. The seam; see `redis` and `memory`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from postfleet_workers.throttling.gcra import SECOND_US, admit, bucket, reckon
from postfleet_workers.throttling.limits import Limit

# The bound while Redis has been emptied and the relay has not noticed yet: nothing goes out (fail closed).
NO_EPOCH = "redis was emptied, waiting for the relay"
# How long a permit may be given back. An unused one: some seconds, as a bundle holds its permits for about one. A
# reserved one: longer than a server may take to answer the final dot.
UNUSED_SECONDS = 5.0
RESERVED_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Admission:
    """What was asked for and may go out.

    Attributes:
        granted: how many, 0 to what was asked for.
        retry_at: when one more may go out, in the server's epoch seconds; None if all were granted.
        bound: name of the limit that holds the others back; None if all were granted.
        wait_seconds: from the server's now to `retry_at`; 0 if all were granted.
        at: when it was answered, in the server's epoch microseconds; what is given back is known by it.
    """

    granted: int
    retry_at: float | None = None
    bound: str | None = None
    wait_seconds: float = 0.0
    at: int = field(default=0, compare=False)


class Limiter(Protocol):
    """Limits shared by every worker. A permit is to be used or given back within a second.

    Every method raises PipeUnavailable when Redis does not answer; mail then waits.
    """

    def acquire(self, limits: Sequence[Limit], n: int) -> Admission:
        """Take up to `n` permits of every limit at once; the same number of each, so none is taken in vain."""

    def peek_many(self, asks: Sequence[tuple[Sequence[Limit], int]], horizon_seconds: float) -> list[Admission]:
        """What of each ask could be granted from now until `horizon_seconds` later; takes nothing, one round trip.

        Exact for one limit; for several it may be one or two above what `acquire` grants, never below.
        """

    def give_back(self, limits: Sequence[Limit], n: int, at: int) -> None:
        """Return `n` unused permits of the `acquire` with these limits that was answered `at`.

        What is given back is as if never taken, see `gcra`; but what is no longer remembered counts as used.
        """


def remembered_us(limit: Limit) -> int:
    """How long what was taken of a limit is remembered, so that it can be given back."""
    return round((RESERVED_SECONDS if limit.reserved else UNUSED_SECONDS) * SECOND_US)


def judge(
    limits: Sequence[Limit], n: int, tats: Mapping[str, int], since: int | None, now: int, until: int
) -> Admission:
    """How many of `n` the limits permit until `until`, given what is stored of each by key. Pure; times in us."""
    if not limits or n <= 0:
        return Admission(max(n, 0))
    buckets = [bucket(limit.count, limit.window_seconds) for limit in limits]
    reckoned = [reckon(tats.get(limit.key), since, now, of) for limit, of in zip(limits, buckets, strict=True)]
    verdict = admit(reckoned, buckets, n, until)
    if verdict.bound is None or verdict.retry_us is None:
        return Admission(n, at=now)
    wait = (verdict.retry_us - now) / SECOND_US
    return Admission(verdict.granted, verdict.retry_us / SECOND_US, limits[verdict.bound].name, wait, now)


def refuse(limits: Sequence[Limit], n: int, now: int) -> Admission:
    """The answer while there is no live epoch: whatever has a limit waits a second."""
    if not limits or n <= 0:
        return Admission(max(n, 0))
    return Admission(0, (now + SECOND_US) / SECOND_US, NO_EPOCH, 1.0, now)
