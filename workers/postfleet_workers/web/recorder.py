"""Opens and clicks on their way to PostgreSQL: noted without waiting, written together by one thread.

A reader is sent on whatever PostgreSQL does. What cannot be written waits, up to a bound; what is beyond it, or still
waits when the process must end, is counted as lost. One commit takes all that came in while the last one was made.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from itertools import islice

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from postfleet_workers import clock
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.mail.events import Seen, record
from postfleet_workers.metrics.web import WebMetrics
from postfleet_workers.store.session import transaction

log = structlog.get_logger(__name__)

MOST_WAITING = 20_000
MOST_AT_ONCE = 500
TRY_AGAIN_SECONDS = 1.0


class Recorder:
    """The queue and its thread. `note` may be called from anywhere."""

    def __init__(self, engine: Engine, metrics: WebMetrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._waiting: deque[Seen] = deque()
        self._changed = threading.Condition()
        self._ends_at: float | None = None
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        metrics.waiting.set_function(lambda: float(len(self._waiting)))

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    def note(self, seen: Seen) -> None:
        """Take it down; never waits for PostgreSQL."""
        with self._changed:
            full = len(self._waiting) >= MOST_WAITING
            if not full:
                self._waiting.append(seen)
                self._changed.notify()
        if full:
            self._metrics.lost(1)

    def close(self, seconds: float) -> None:
        """Write what waits, for at most so long, and end."""
        with self._changed:
            self._ends_at = clock.monotonic() + seconds
            self._changed.notify_all()
        self._thread.join(seconds)
        if left := len(self._waiting):
            self._metrics.lost(left)
            log.error("events_lost", count=left)

    def _run(self) -> None:
        while batch := self._next():
            try:
                self._write(batch)
            except StoreUnavailable as error:
                log.warning("events_wait", count=len(self._waiting), error=str(error).splitlines()[0])
                if self._pause():
                    return
                continue
            with self._changed:
                for _ in batch:
                    self._waiting.popleft()

    def _next(self) -> list[Seen]:
        """What to write next, once there is something; empty at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ends_at is not None)
            return list(islice(self._waiting, MOST_AT_ONCE))

    def _pause(self) -> bool:
        """Wait a little; whether the time is up."""
        with self._changed:
            if self._ends_at is None:
                self._changed.wait_for(lambda: self._ends_at is not None, TRY_AGAIN_SECONDS)
            else:
                self._changed.wait(min(TRY_AGAIN_SECONDS, max(self._ends_at - clock.monotonic(), 0.0)))
            return self._ends_at is not None and clock.monotonic() >= self._ends_at

    def _write(self, batch: Sequence[Seen]) -> None:
        try:
            with transaction(self._engine) as connection:
                written = record(connection, batch, clock.monotonic())
        except DBAPIError:
            if len(batch) == 1:  # this one can never be written; the others can
                self._metrics.lost(1)
                log.exception("event_refused", email_id=batch[0].email_id)
                return
            for one in batch:
                self._write([one])
        else:
            self._metrics.written(written)
