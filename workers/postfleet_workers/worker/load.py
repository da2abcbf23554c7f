"""What a process has done: busy threads, settled jobs, thread-seconds of finished bundles. Read by the lease's renewal.

Only finished bundles count: with `completed` they give the pace of a thread, and a job that has run for ten minutes
must not make its pool look slow before it is done. Jobs that were put back count for nothing, and neither does their
time: fifty in a few milliseconds are no pace, and one that met a silent server for half a minute is none either. Mail
that a server put off with a reply does count: it took what a mail takes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from postfleet_workers import clock
from postfleet_workers.jobs import Outcome
from postfleet_workers.leases import Load
from postfleet_workers.outcomes import put_back


@dataclass(slots=True)
class Stint:
    """A thread's time in one bundle: whether any job was done, and the seconds of those that were put back."""

    worked: bool = False
    aside_seconds: float = 0.0

    def note(self, outcome: Outcome, seconds: float) -> None:
        """A job took so long."""
        if put_back(outcome):
            self.aside_seconds += seconds
        else:
            self.worked = True


class LoadMeter:
    """Counts for one process; safe for its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._completed = 0
        self._busy_seconds = 0.0

    @contextmanager
    def busy(self) -> Iterator[Stint]:
        """A thread runs a bundle; gives what its jobs are noted in."""
        stint = Stint()
        began = clock.monotonic()
        with self._lock:
            self._busy += 1
        try:
            yield stint
        finally:
            with self._lock:
                self._busy -= 1
                if stint.worked:
                    self._busy_seconds += max(clock.monotonic() - began - stint.aside_seconds, 0.0)

    def settled(self, outcomes: Iterable[Outcome]) -> None:
        """These outcomes were written."""
        done = sum(not put_back(outcome) for outcome in outcomes)
        with self._lock:
            self._completed += done

    def read(self) -> Load:
        """The counts as of now."""
        with self._lock:
            return Load(self._busy, self._completed, round(self._busy_seconds, 3))
