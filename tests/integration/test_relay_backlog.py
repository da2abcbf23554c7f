"""A backlog of a quarter of a million rows in fifty groups: what a tick reads of it, in rows and pages, not in time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Connection, Engine, text

from integration.ledger_steps import QUEUE, change, plan
from postfleet_local.stack import Postgres
from postfleet_workers.relay import census, rows
from postfleet_workers.relay.publisher import CLOSED_LIMIT, COUNT_LIMIT
from postfleet_workers.store.arrays import texts
from postfleet_workers.store.session import engine_for

DATABASE = "postfleet_backlog"
FILL = """
INSERT INTO jobs (type, queue, tenant, batch, route)
SELECT 'email.send', :queue, 'tenant-' || n % 10, 'campaign:' || n / 10 % 5, 'n1' FROM generate_series(1, 250000) n
"""
ALONE = "INSERT INTO jobs (type, queue) SELECT 'email.send', 'alone' FROM generate_series(1, 30000)"
DEFERRED = """
INSERT INTO jobs (type, queue, state, run_at)
SELECT 'email.send', 'retry', 'retryable', now() - make_interval(secs => n * 7919 % 86400)
FROM generate_series(1, 100000) n
"""
READ = text("SELECT pg_stat_get_xact_tuples_returned(CAST('ix_jobs_available' AS regclass))")


@pytest.fixture(scope="module")
def backlog(postgres: Postgres, template_database: str) -> Iterator[Engine]:
    """A database that these tests only ask."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template_database}")
    engine = engine_for(postgres.url(DATABASE))
    change(engine, FILL, queue=QUEUE)
    change(engine, ALONE)
    change(engine, DEFERRED)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("CHECKPOINT"))  # rows of a commit that was not flushed yet are not visible to all
        connection.execute(text("VACUUM ANALYZE jobs"))
    yield engine
    engine.dispose()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


def count(connection: Connection, budget: int, queue: str = QUEUE) -> tuple[list[census.Group], int]:
    """What is counted, and the index entries that were read for it."""
    before = connection.execute(READ).scalar_one()
    found = census.count(connection, queue, census.keys(connection, [queue])[queue], budget, {})
    return found, connection.execute(READ).scalar_one() - before


@pytest.mark.parametrize("budget", [COUNT_LIMIT, CLOSED_LIMIT])
def test_a_poll_reads_no_more_of_a_queue_than_its_budget_however_many_groups(backlog: Engine, budget: int) -> None:
    with backlog.connect() as connection:
        found, read = count(connection, budget)
    assert len(found) == 50
    assert {(group.due, group.more) for group in found} == {(budget // 50, True)}
    assert budget <= read <= budget + 300, "and a few probes for each group"


def test_one_open_group_is_seen_as_far_as_the_largest_pool_scales(backlog: Engine) -> None:
    with backlog.connect() as connection:
        (group,), read = count(connection, COUNT_LIMIT, "alone")
    assert group.due == COUNT_LIMIT >= 10_000
    assert read <= COUNT_LIMIT + 300


def test_counting_reads_the_index_and_leaves_the_rows_alone(backlog: Engine) -> None:
    with backlog.connect() as connection:
        keys = census.keys(connection, [QUEUE])[QUEUE]
        given = {"queue": QUEUE, "most": COUNT_LIMIT // 50, **census.columns(keys)}
        (explained,) = connection.execute(
            text(f"EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) {census.COUNT.text}"), given
        ).scalar_one()
    scans = [node for node in nodes(explained["Plan"]) if node.get("Relation Name") == "jobs"]
    (counted,) = [node for node in scans if node["Node Type"] == "Index Only Scan"]
    assert counted["Index Name"] == "ix_jobs_available"
    assert counted["Heap Fetches"] == 0, json.dumps(counted, indent=1)
    assert counted["Actual Loops"] == 50
    assert counted["Actual Rows"] == COUNT_LIMIT // 50
    assert sum(node["Actual Rows"] * node["Actual Loops"] for node in scans) <= COUNT_LIMIT + 50
    buffers = explained["Plan"]["Shared Hit Blocks"] + explained["Plan"]["Shared Read Blocks"]
    assert buffers < 2000, "pages, of more than 6,000"


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A plan's nodes, depth first."""
    yield node
    for child in node.get("Plans", ()):
        yield from nodes(child)


@pytest.mark.parametrize("generic", [False, True], ids=["custom plan", "generic plan"])
def test_promotion_reads_in_the_indexs_order_and_sorts_nothing(backlog: Engine, generic: bool) -> None:
    with backlog.connect() as connection:
        if generic:
            connection.execute(text("SET plan_cache_mode = force_generic_plan"))
        found = plan(connection, rows.PROMOTE, {"queues": texts([QUEUE, "retry"]), "most": 2000})
    assert "ix_jobs_waiting" in found, found
    assert "Seq Scan on jobs" not in found, found
    assert not re.search("Sort Key: .*run_at", found), found
