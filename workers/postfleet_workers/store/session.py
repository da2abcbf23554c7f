"""Connections to PostgreSQL: one engine per process, few connections, errors in the package's own words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from sqlalchemy import Connection, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from postfleet_workers.errors import InputError, PermanentError, StoreUnavailable
from postfleet_workers.starting import until_it_answers

# Keepalives notice a vanished server in about half a minute instead of hours; where data is under way the kernel sends
# it again instead, for a quarter of an hour unless it is told (tcp(7), TCP_USER_TIMEOUT).
CONNECT_ARGS = {
    "connect_timeout": 5,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 30_000,  # milliseconds
    "options": "-c timezone=UTC -c statement_timeout=60000 -c idle_in_transaction_session_timeout=60000",
}

_DECODER = json.JSONDecoder()

# SQLSTATE (PostgreSQL documentation, appendix A): connection, resources, operator intervention, rollback (deadlock).
PASSING_CLASSES = ("08", "53", "57", "40")
# A read-only server is a demoted primary or a standby; a lock that was not to be had in time.
PASSING_STATES = ("25006", "55P03")


def engine_for(database_url: str, *, connections: int = 3, application_name: str = "postfleet") -> Engine:
    """An engine that holds at most `connections` connections.

    Raises:
        InputError: the URL is no PostgreSQL URL.
    """
    try:
        url = make_url(database_url)
    except ArgumentError as error:
        raise InputError(
            f"POSTFLEET_DATABASE_URL: {error}; give postgresql://user:password@host:port/database"
        ) from None
    if url.get_backend_name() not in {"postgresql", "postgres"}:
        raise InputError(f"POSTFLEET_DATABASE_URL: {url.drivername!r} is not PostgreSQL; give postgresql://…")
    return create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=connections,
        max_overflow=0,
        pool_timeout=30,
        json_deserializer=_from_json,
        connect_args={**CONNECT_ARGS, "application_name": application_name},
    )


def _from_json(data: bytes | str) -> Any:
    """What `json.loads` does, but for trying which encoding bytes have: two values of every mail come by here."""
    return _DECODER.decode(data if isinstance(data, str) else data.decode())


@contextmanager
def store_errors() -> Iterator[None]:
    """Say what goes wrong between here and PostgreSQL in the package's own words.

    Raises:
        StoreUnavailable: PostgreSQL went away or has no free connection.
    """
    try:
        yield
    except PoolTimeout as error:
        raise StoreUnavailable(f"no free PostgreSQL connection: {error}") from error
    except DBAPIError as error:
        if error.connection_invalidated or passing(error.orig):
            raise StoreUnavailable(f"PostgreSQL: {error.orig}") from error
        raise
    except psycopg.Error as error:  # from the driver itself: COPY, LISTEN
        if passing(error):
            raise StoreUnavailable(f"PostgreSQL: {error}") from error
        raise


def passing(error: BaseException | None) -> bool:
    """Whether an error says something of the server's state rather than of the statement: worth trying again."""
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(PASSING_CLASSES) or state in PASSING_STATES


@contextmanager
def transaction(engine: Engine) -> Iterator[Connection]:
    """One transaction; commits at the end.

    Raises:
        StoreUnavailable: PostgreSQL went away or has no free connection.
    """
    with store_errors(), engine.begin() as connection, _without_demoted(connection):
        yield connection


@contextmanager
def statements(engine: Engine) -> Iterator[Connection]:
    """Statements of which each is a transaction of its own: two round trips less than `transaction`.

    Raises:
        StoreUnavailable: PostgreSQL went away or has no free connection.
    """
    with store_errors(), engine.connect() as connection, _without_demoted(connection):
        yield connection.execution_options(isolation_level="AUTOCOMMIT")


@contextmanager
def _without_demoted(connection: Connection) -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.errors.ReadOnlySqlTransaction):
            connection.invalidate()  # a demoted primary: the pool must not keep its connections
        raise


def wait_until_up(engine: Engine, wait_seconds: float) -> None:
    """Return once PostgreSQL answers; says once that it waits.

    Raises:
        StoreUnavailable: it did not answer within `wait_seconds`.
    """

    def ask() -> None:
        with transaction(engine) as connection:
            connection.execute(text("SELECT 1"))

    until_it_answers("PostgreSQL", "POSTFLEET_DATABASE_URL", ask, wait_seconds)


def require_schema(engine: Engine) -> None:
    """See that the database has Postfleet's tables.

    Raises:
        PermanentError: it was never migrated.
        StoreUnavailable: PostgreSQL does not answer.
    """
    with transaction(engine) as connection:
        if not connection.scalar(text("SELECT to_regclass('jobs') IS NOT NULL")):
            raise PermanentError("the database has no Postfleet tables yet; run `postfleet migrate` first")
