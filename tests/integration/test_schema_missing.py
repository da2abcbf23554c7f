"""A database that nobody has migrated: every command and loop says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from structlog.testing import capture_logs

from postfleet_local.stack import Postgres
from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.ledger import Ledger
from postfleet_operator.progress import Progress
from postfleet_operator.simulation import history
from postfleet_operator.stores import database
from unit.operator.building import pool

WORDS = "the schema is not there: run `postfleet migrate`"


@pytest.fixture
def empty_database(postgres: Postgres, database_url: str) -> Iterator[str]:
    name = f"{psycopg.conninfo.conninfo_to_dict(database_url)['dbname']}_empty"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")  # type: ignore[call-overload]
        yield postgres.url(name)
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


def test_the_operators_loops_say_so(empty_database: str) -> None:
    connect = database(empty_database)
    with pytest.raises(StoreUnavailable, match=f"^PostgreSQL: {WORDS}$"):
        Ledger(connect).use(lambda connection: connection.execute("SELECT 1"), 0.0)
    with capture_logs() as lines:
        Progress(connect).look(0.0)
    assert [(line["event"], line["error"]) for line in lines] == [("heartbeats_not_read", WORDS)]


def test_reading_history_says_so(empty_database: str) -> None:
    with pytest.raises(StoreUnavailable, match=f"^PostgreSQL: {WORDS}$"):
        history.read(empty_database, pool(), 3600)


def test_a_database_with_the_schema_is_left_in_no_transaction(database_url: str) -> None:
    with database(database_url)() as connection:
        assert (connection.autocommit, connection.info.transaction_status) == (
            False,
            psycopg.pq.TransactionStatus.IDLE,
        )
