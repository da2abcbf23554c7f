"""A limit over the beginnings of jobs, and what of a job's wait is the limit's and what the fleet's. Pure.

The limit is a GCRA as the workers' is. A job waits for the fleet from when the limit alone would have let it begin. A
limit that is never quiet makes up for nothing: one late replica would count against every job that ever follows. So a
job that arrives after the fleet has caught up with the limit inherits no such delay; there is nothing that a policy
could do for it.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator

# So much of a limit may be used at once.
BURST_SECONDS = 1.0
EPSILON = 1e-9


class Limit:
    """The limit's state, and the waits of the jobs that have begun.

    Args:
        per_second: how many may begin.

    Attributes:
        waits: how long each job waited for the fleet, in the order in which they began.
    """

    def __init__(self, per_second: float) -> None:
        self.waits = array("d")
        self._each = 1 / per_second
        self._theoretical = -math.inf  # GCRA's theoretical arrival time
        self._alone = -math.inf  # the same if the fleet had always been in time
        self._late_until = -math.inf  # when a job last had to wait for a thread

    @property
    def opens_at(self) -> float:
        """When it lets the next job begin."""
        return self._theoretical - BURST_SECONDS

    def begin(self, arrival: float, at: float, thread_free_at: float) -> None:
        """A job begins at `at`, the earliest time that limit, arrival and thread allow."""
        if thread_free_at > max(arrival, self.opens_at) + EPSILON:
            self._late_until = at
        self._theoretical = max(self._theoretical, at) + self._each
        if arrival > self._late_until:
            self._alone = self._theoretical
            self.waits.append(0.0)
            return
        self.waits.append(max(at - self._release(arrival), 0.0))

    def permits(self, now: float, ahead_seconds: float) -> int:
        """How many it lets begin within that time."""
        free_seconds = now + ahead_seconds + BURST_SECONDS - max(self._theoretical, now)
        return max(math.floor(free_seconds / self._each), 0)

    def alone(self, arrivals: Iterable[float]) -> Iterator[float]:
        """When it would let the next jobs begin if nothing else held them."""
        return (self._release(arrival) for arrival in arrivals)

    def _release(self, arrival: float) -> float:
        at = max(arrival, self._alone - BURST_SECONDS)
        self._alone = max(self._alone, at) + self._each
        return at
