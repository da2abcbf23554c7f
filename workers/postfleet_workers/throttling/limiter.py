"""Admission: one atomic answer to 'how many of these may go out now?'. The seam; see `redis` and `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from postfleet_workers.throttling.limits import Limit

# The bound while Redis has been emptied and the relay has not noticed yet: nothing goes out (fail closed).
NO_EPOCH = "redis was emptied, waiting for the relay"


@dataclass(frozen=True, slots=True)
class Admission:
    """What was asked for and may go out.

    Attributes:
        granted: how many, 0 to what was asked for.
        retry_at: when one more may go out, in the server's epoch seconds; None if all were granted.
        bound: name of the limit that holds the others back; None if all were granted.
    """

    granted: int
    retry_at: float | None = None
    bound: str | None = None


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

    def give_back(self, limits: Sequence[Limit], n: int) -> None:
        """Return `n` unused permits of an earlier `acquire` with these limits."""
