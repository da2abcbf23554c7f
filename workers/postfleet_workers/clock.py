"""The only module of the package that reads a clock, or waits by one."""

from __future__ import annotations

import time
from datetime import datetime, timedelta


def monotonic() -> float:
    """Seconds on this machine's monotonic clock."""
    return time.monotonic()


def pause(seconds: float) -> None:
    """Wait so long."""
    time.sleep(seconds)


class DatabaseClock:
    """The database's clock without asking it each time: its last reading, carried forward by the monotonic clock.

    Read by all threads, several times a mail: a reading is one value, replaced whole, and needs no lock.
    """

    def __init__(self) -> None:
        self._reading: tuple[datetime, float] | None = None

    def pin(self, database_now: datetime) -> None:
        """Note what the database's clock showed just now."""
        self._reading = (database_now, monotonic())

    def now(self) -> datetime:
        """The database's time.

        Raises:
            RuntimeError: it was never read.
        """
        if self._reading is None:
            raise RuntimeError("the database's clock was not read yet")
        reading, at = self._reading
        return reading + timedelta(seconds=monotonic() - at)
