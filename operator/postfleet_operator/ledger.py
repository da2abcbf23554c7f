"""The keeper's connection to PostgreSQL: opened when needed, left alone for a while after it failed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import psycopg

from postfleet_operator.errors import StoreUnavailable, said
from postfleet_operator.rounds import due
from postfleet_operator.stores import Connect

RETRY_SECONDS = 5.0

T = TypeVar("T")


class Ledger:
    """One connection, used by one thread.

    Attributes:
        problem: why PostgreSQL could not be asked last, or empty.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._retry_at = 0.0
        self.problem = ""

    def use(self, ask: Callable[[psycopg.Connection[Any]], T], now: float) -> T:
        """Ask something on the connection; `now` is epoch seconds.

        Raises:
            StoreUnavailable: PostgreSQL does not answer, or did not a moment ago.
        """
        if not due(now, self._retry_at, RETRY_SECONDS):
            raise StoreUnavailable(self.problem)
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.autocommit = True
            answer = ask(self._connection)
        except (psycopg.Error, StoreUnavailable) as error:
            words = said(error)
            self.problem = words if words.startswith("PostgreSQL: ") else f"PostgreSQL: {words}"
            self._retry_at = now + RETRY_SECONDS
            self.close()
            raise StoreUnavailable(self.problem) from error
        self.problem = ""
        return answer

    def close(self) -> None:
        """End the connection; the next use opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None
