"""What the ledger tells about nodes, and about queues that nobody serves, on a real PostgreSQL."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from postfleet_operator import unserved
from postfleet_operator.deliveries import CHUNK_MINUTES, Deliveries
from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.ledger import RETRY_SECONDS, Ledger
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.stores import database
from postfleet_operator.unserved import MOST_JOBS, NOTICE_SECONDS, Road, Unserved

HOUR = 3600


@pytest.fixture
def connection(database_url: str) -> Iterator[psycopg.Connection[Any]]:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO emails (job_id, tenant, class, node, recipient, message_id)"
            " VALUES (1, 't', 'campaign', 'a', 'x@example.org', 'm')"
        )
        yield connection


def attempt(
    connection: psycopg.Connection[Any], node: str, seconds_ago: float, count: int = 1, outcome: str = "sent",
    phase: str = "dot", scope: str | None = None, reply: str = "",
) -> None:  # fmt: skip
    connection.execute(
        "INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, scope, reply, finished_at)"
        " SELECT id, 1, 'w', %s, %s, %s, %s, %s, postfleet_now() - make_interval(secs => %s)"
        " FROM emails, generate_series(1, %s)",
        (node, phase, outcome, scope, reply, seconds_ago, count),
    )


def test_today_is_the_last_24_hours(connection: psycopg.Connection[Any]) -> None:
    for seconds, count in ((0, 1), (90, 10), (12 * HOUR, 100), (23.9 * HOUR, 1000), (24.1 * HOUR, 10_000)):
        attempt(connection, "a", seconds, count)
    attempt(connection, "a", 5, outcome="deferred")
    attempt(connection, "b", 5)
    deliveries = Deliveries(time.monotonic)
    deliveries.look(connection, ["a", "b", "c"], 0.0)
    assert [deliveries.accepted(node) for node in "abcd"] == [1111, 1, 0, None]
    attempt(connection, "a", 0, 5)
    deliveries.look(connection, ["a", "b"], 0.0)
    assert [deliveries.accepted(node) for node in "abc"] == [1116, 1, None]


def test_mail_leaves_the_day_as_it_passes(connection: psycopg.Connection[Any], database_url: str) -> None:
    attempt(connection, "a", 24 * HOUR - 120, 7)
    attempt(connection, "a", 10, 1)
    deliveries = Deliveries(time.monotonic)
    deliveries.look(connection, ["a"], 0.0)
    assert deliveries.accepted("a") == 8
    connection.execute("SET postfleet.clock_offset = '5 min'")
    deliveries.look(connection, ["a"], 0.0)
    assert deliveries.accepted("a") == 1
    connection.execute("SET postfleet.clock_offset = '2 days'")
    deliveries.look(connection, ["a"], 0.0)
    assert deliveries.accepted("a") == 0


def test_a_large_past_is_read_in_pieces_and_not_told_before_its_end(connection: psycopg.Connection[Any]) -> None:
    attempt(connection, "a", 23.9 * HOUR, 7)
    attempt(connection, "a", 10, 1)
    ticks = itertools.count(0.0, 0.2)
    deliveries = Deliveries(lambda: next(ticks))  # time for a few pieces at each look
    looks = 0
    while deliveries.accepted("a") is None:
        looks += 1
        deliveries.look(connection, ["a"], 0.0)
    assert 10 < looks <= 24 * 60 / CHUNK_MINUTES
    assert deliveries.accepted("a") == 8


def test_failed_sessions_are_told_and_mails_that_never_asked_a_server_are_not(
    connection: psycopg.Connection[Any],
) -> None:
    attempt(connection, "a", 100)
    attempt(connection, "a", 60, outcome="deferred", phase="rcpt", scope="recipient", reply="450 later")
    attempt(connection, "a", 50, outcome="failed", phase="auth", scope="source", reply="535 no")
    attempt(connection, "b", 40, outcome="deferred", phase="connect", scope="destination", reply="refused")
    attempt(connection, "c", 30, outcome="failed", phase="connect", scope="message", reply="template")
    attempt(connection, "d", 20, outcome="suppressed", phase="connect", reply="manual")
    attempt(connection, "e", 10, outcome="bounced", phase="connect", scope="recipient", reply="556 5.1.10 null MX")
    deliveries = Deliveries(time.monotonic)
    deliveries.look(connection, ["a", "b", "c", "d", "e"], now=5000.0)
    a, b, *others = (deliveries.experience(node) for node in "abcde")
    assert (a.sent_at, a.failed_at) == (pytest.approx(4900, abs=2), pytest.approx(4950, abs=2))
    assert (a.phase, a.failure) == ("auth", "535 no")
    assert (b.sent_at, b.phase, b.failure) == (None, "connect", "refused")
    assert [(other.sent_at, other.failed_at) for other in others] == [(None, None)] * 3


def test_queues_that_no_pool_serves_are_counted(connection: psycopg.Connection[Any]) -> None:
    add = "INSERT INTO jobs (type, queue, state, run_at) SELECT 't', %s, %s, now() FROM generate_series(1, %s)"
    for queue, state, count in (
        ("served", "available", 3), ("lost", "available", 2), ("lost", "scheduled", 1), ("later", "retryable", 1),
        ("over", "completed", 9), ("many", "available", MOST_JOBS + 5),
    ):  # fmt: skip
        connection.execute(add, (queue, state, count))
    assert unserved.count(connection, {"served", "other"}) == {"lost": 3, "later": 1, "many": MOST_JOBS}
    assert unserved.count(connection, {"served", "lost", "later", "many"}) == {}


def test_mail_of_dedicated_nodes_in_queues_that_their_pools_do_not_list_is_counted(
    connection: psycopg.Connection[Any],
) -> None:
    add = (
        "INSERT INTO jobs (type, queue, state, route, tenant, batch, run_at)"
        " SELECT 't', %s, %s, %s, 't' || mod(n, 3), 'b' || mod(n, 2), now() FROM generate_series(1, %s) AS n"
    )
    for queue, state, route, count in (
        ("bulk", "available", "eu", 5), ("urgent", "available", "eu", 7), ("urgent", "available", "us", 3),
        ("urgent", "available", "", 20), ("urgent", "scheduled", "eu", 2), ("retry", "retryable", "eu", 4),
        ("retry", "retryable", "shared", 4), ("urgent", "executing", "eu", 1), ("over", "completed", "eu", 9),
        ("many", "available", "us", MOST_JOBS + 5),
    ):  # fmt: skip
        connection.execute(add, (queue, state, route, count))
    served = {"eu": ("bulk",), "us": ("urgent", "retry"), "idle": ()}
    assert unserved.roads(connection, served) == {
        Road("urgent", "eu"): 9,
        Road("retry", "eu"): 4,
        Road("many", "us"): MOST_JOBS,
    }
    assert unserved.roads(connection, {"us": ("urgent", "retry", "many")}) == {}
    assert unserved.roads(connection, {}) == {}


def test_what_cannot_be_counted_in_time_is_not_known(connection: psycopg.Connection[Any], database_url: str) -> None:
    connection.commit()
    connection.autocommit = True
    connection.execute("SET statement_timeout = 50")
    with psycopg.connect(database_url) as other:
        other.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        assert unserved.roads(connection, {"eu": ("bulk",)}) is None
    assert unserved.roads(connection, {"eu": ("bulk",)}) == {}


def test_of_each_such_queue_there_is_a_notice_once_an_hour() -> None:
    cluster = MemoryCluster()
    teller = Unserved(cluster)
    teller.tell({"lost": 3}, 0.0)
    teller.tell({"lost": 4, "other": MOST_JOBS}, 10.0)
    assert [event.message for event in cluster.events] == [
        "queue lost has 3 unfinished jobs, but no JobPool lists it in spec.queues",
        f"queue other has {MOST_JOBS} or more unfinished jobs, but no JobPool lists it in spec.queues",
    ]
    teller.tell({"lost": 4}, NOTICE_SECONDS)
    teller.tell({}, NOTICE_SECONDS + 1)
    teller.tell({"lost": 4}, NOTICE_SECONDS + 2)
    assert len(cluster.events) == 4


def test_a_database_that_is_away_is_left_alone_for_a_while(database_url: str) -> None:
    opened = []

    def connect() -> psycopg.Connection[Any]:
        opened.append(1)
        return database(database_url if len(opened) != 2 else "postgresql://127.0.0.1:1/none")()

    ledger = Ledger(connect)
    assert ledger.use(lambda connection: connection.execute("SELECT 1").fetchone(), 0.0) == (1,)
    with pytest.raises(StoreUnavailable, match=r"^PostgreSQL: "):
        ledger.use(lambda connection: connection.execute("SELECT pg_terminate_backend(pg_backend_pid())"), 1.0)
    with pytest.raises(StoreUnavailable, match=r"^PostgreSQL: "):
        ledger.use(lambda _: None, 1.0 + RETRY_SECONDS)
    with pytest.raises(StoreUnavailable):
        ledger.use(lambda _: None, 2.0 + RETRY_SECONDS)
    assert len(opened) == 2
    ledger.use(lambda _: None, 1.0 + 2 * RETRY_SECONDS)
    assert (len(opened), ledger.problem) == (3, "")
    ledger.close()
