"""Unsubscribing: the event and the suppression in one transaction, committed before anybody is told that it is done.

A transaction takes a thread of a few, so that one slow moment of PostgreSQL holds up no click. More requests than can
be served soon are turned away, to come again: so is one that takes too long, which may have been committed then, and
does no harm when it is repeated.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

import structlog
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.mail.events import unsubscribe
from postfleet_workers.mail.tokens import Key
from postfleet_workers.metrics.web import WebMetrics
from postfleet_workers.store.session import transaction

log = structlog.get_logger(__name__)

CONNECTIONS = 3
MOST_WAITING = 200
PATIENCE_SECONDS = 8.0


class Unsubscribing:
    """The threads. `commit` belongs to one event loop."""

    def __init__(self, engine: Engine, key: Key, metrics: WebMetrics) -> None:
        self._engine = engine
        self._key = key
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="unsubscribe")
        self._waiting = 0

    async def commit(self, email_id: int) -> bool:
        """Take the recipient off; False when the mail is not known any more.

        Raises:
            StoreUnavailable: it is not sure to be committed; to be asked for again.
        """
        if self._waiting >= MOST_WAITING:
            raise StoreUnavailable("too many requests wait already")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            return await asyncio.wait_for(loop.run_in_executor(self._threads, self._commit, email_id), PATIENCE_SECONDS)
        except TimeoutError:
            raise StoreUnavailable(f"PostgreSQL took more than {PATIENCE_SECONDS:.0f} s") from None
        finally:
            self._waiting -= 1

    def close(self) -> None:
        """Let what was begun end."""
        self._threads.shutdown(cancel_futures=True)

    def _commit(self, email_id: int) -> bool:
        try:
            with transaction(self._engine) as connection:
                written = unsubscribe(connection, email_id, self._key)
        except DBAPIError as error:  # a schema that is not there yet, say: whatever it is, it was not written
            log.exception("unsubscribe_failed", email_id=email_id)
            raise StoreUnavailable(f"PostgreSQL: {error.orig}") from error
        if written is None:
            return False
        if written:
            self._metrics.written([("unsubscribe", False)])
        return True
