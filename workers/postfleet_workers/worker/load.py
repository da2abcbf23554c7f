"""What a process has done: busy threads, settled jobs, thread-seconds of finished bundles. Read by the lease's renewal.

Only finished bundles count: with `completed` they give the pace of a thread, and a job that has run for ten minutes
must not make its pool look slow before it is done.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from postfleet_workers import clock
from postfleet_workers.leases import Load


class LoadMeter:
    """Counts for one process; safe for its threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = 0
        self._completed = 0
        self._busy_seconds = 0.0

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A thread runs a bundle."""
        began = clock.monotonic()
        with self._lock:
            self._busy += 1
        try:
            yield
        finally:
            with self._lock:
                self._busy -= 1
                self._busy_seconds += clock.monotonic() - began

    def settled(self, jobs: int) -> None:
        """Outcomes of so many jobs were written."""
        with self._lock:
            self._completed += jobs

    def read(self) -> Load:
        """The counts as of now."""
        with self._lock:
            return Load(self._busy, self._completed, round(self._busy_seconds, 3))
