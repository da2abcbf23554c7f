"""This process' lease: a thread renews it and reports the load; everyone asks whether it still holds.

A process that could not renew for half a lease begins nothing new, so that it is idle by the time others may count it
as dead. Both halves are measured on this machine's monotonic clock from the moment the renewal was *sent*.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from itertools import repeat

import structlog
from sqlalchemy import Engine

from postfleet_workers import clock, leases
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.store.session import transaction

log = structlog.get_logger(__name__)

# The load that a renewal reports is what throughput is measured by: no lease is so long that it may be older than this.
BEAT_SECONDS = 5.0
# What a process did first is told soon: a pool that starts from zero waits for its first measurement.
FIRST_BEAT_SECONDS = 1.0


def beats(lease_seconds: float) -> Iterator[float]:
    """Seconds to wait before each renewal. Pure."""
    beat = min(lease_seconds / 6, BEAT_SECONDS)
    yield min(beat, FIRST_BEAT_SECONDS)
    yield from repeat(beat)


class Lease:
    """Registered by `start`, renewed until `stop`: six times per lease, and every 5 s at the least."""

    def __init__(
        self,
        engine: Engine,
        who: leases.Identity,
        seconds: float,
        database_clock: clock.DatabaseClock,
        load: Callable[[], leases.Load],
        renewed: Callable[[float], None] = lambda _sent: None,
    ) -> None:
        self.who = who
        self.seconds = seconds
        self._engine = engine
        self._clock = database_clock
        self._load = load
        self._tell = renewed
        self._renewed = float("-inf")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease", daemon=True)

    def start(self) -> None:
        """Write the first heartbeat: from now on the process counts as a worker.

        Raises:
            StoreUnavailable: PostgreSQL does not answer.
        """
        sent = clock.monotonic()
        with transaction(self._engine) as connection:
            now = leases.register(connection, self.who, self.seconds)
        self._clock.pin(now)
        self._renewed = sent
        self._tell(sent)
        self._thread.start()

    def holds(self) -> bool:
        """Whether a new job may begin: renewed within half a lease."""
        return clock.monotonic() - self._renewed < self.seconds / 2

    def alive(self) -> bool:
        """Whether the renewing thread runs."""
        return self._thread.is_alive()

    def stop(self) -> None:
        """Stop renewing and say goodbye, if PostgreSQL listens."""
        self._stopped.set()
        self._thread.join(self.seconds)
        try:
            with transaction(self._engine) as connection:
                leases.stop(connection, self.who.id)
        except StoreUnavailable as error:
            log.warning("goodbye_not_written", error=str(error))

    def _run(self) -> None:
        for wait in beats(self.seconds):
            if self._stopped.wait(wait):
                return
            try:
                sent = clock.monotonic()
                with transaction(self._engine) as connection:
                    now = leases.renew(connection, self.who.id, self.seconds, self._load())
                    if now is None:
                        now = leases.register(connection, self.who, self.seconds)
                self._clock.pin(now)
                self._renewed = sent
                self._tell(sent)
            except StoreUnavailable as error:
                log.warning("lease_not_renewed", error=str(error), holds=self.holds())
            except Exception:
                # The thread must outlive whatever it meets: without it the process looks well and does nothing.
                log.exception("lease_not_renewed")
