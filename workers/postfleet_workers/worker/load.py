"""What a process has done: busy threads, settled jobs, busy thread-seconds. Read by the lease's renewal."""

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
        self._since = clock.monotonic()

    @contextmanager
    def busy(self) -> Iterator[None]:
        """A thread runs a bundle."""
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    def settled(self, jobs: int) -> None:
        """Outcomes of so many jobs were written."""
        with self._lock:
            self._completed += jobs

    def read(self) -> Load:
        """The counts as of now."""
        self._change(0)
        with self._lock:
            return Load(self._busy, self._completed, round(self._busy_seconds, 3))

    def _change(self, by: int) -> None:
        with self._lock:
            now = clock.monotonic()
            self._busy_seconds += self._busy * (now - self._since)
            self._since = now
            self._busy += by
