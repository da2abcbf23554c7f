"""The hot questions of the relay and the ledger on a big table: each walks an index."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from integration.ledger_steps import QUEUE, change, plan
from postfleet_local.stack import Postgres
from postfleet_workers import administration, ledger
from postfleet_workers.ledger import split
from postfleet_workers.mail import queries
from postfleet_workers.mail.settlement import COLUMNS
from postfleet_workers.relay import census, gauges, rows
from postfleet_workers.store.arrays import plain, texts
from postfleet_workers.store.session import engine_for

DATABASE = "postfleet_full"
ROWS = 100_000
# Half of the rows are final, as in a table that has lived; the rest are of 20 tenants, five campaigns each, two nodes.
# Some are on offer, some execute.
FILL = """
INSERT INTO jobs (type, queue, tenant, batch, route, priority, state, run_at, publication, published_until,
                  claimed_by)
SELECT 'email.send', CASE WHEN n % 10 = 0 THEN 'priority-high' ELSE :queue END, 'tenant-' || n % 20,
       'campaign:' || n / 20 % 5, 'node-' || n / 100 % 2, n % 3,
       CASE WHEN n % 2 = 0 THEN 'completed' WHEN n % 50 = 1 THEN 'scheduled'
            WHEN n % 100 = 3 THEN 'executing' ELSE 'available' END,
       now() - make_interval(secs => n % 1000), 1, CASE WHEN n % 100 = 7 THEN now() END,
       CASE WHEN n % 100 = 3 THEN 'worker-' || n / 100 % 10 END
FROM generate_series(1, :rows) n
"""
FILL_EMAILS = """
INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, status)
SELECT n, 'acme', 'campaign', 'n1', 'a@example.org', '<' || n || '@example.org>',
       CASE WHEN n % 1000 = 0 THEN 'unknown' ELSE 'sent' END
FROM generate_series(1, 10000) n
"""
GROUP = {"queue": QUEUE, "tenant": "tenant-3", "batch": "campaign:1", "route": "node-0", "most": 50, "seconds": 30.0}
KEYS = {"tenants": ["tenant-3"], "batches": ["campaign:1"], "routes": ["node-0"]}
SUSPECT = {"queue": QUEUE, **KEYS, "seconds": 30.0}
ITEMS = split([(n, 1) for n in range(1, 51)])
CLAIM = {**ITEMS, "worker": "w", "claim": "c", "epoch": "e"}
COMPLETE = {**ITEMS, "claims": texts(["c"] * 50)}
SETTLE = {
    "ids": ITEMS["ids"],
    "outcomes": json.dumps([{"id": n, "publication": 1, "claim": "c", "state": "completed"} for n in range(1, 51)]),
}
NOTHING = texts([None] * 50)
MAILS = {
    **{name: NOTHING for name, _ in COLUMNS},
    "job_ids": ITEMS["ids"],
    "statuses": texts(["sent"] * 50),
    "unchanged": plain(range(1, 11)),
}
QUEUES = texts([QUEUE, "priority-high"])
ABANDONED = {"queues": [QUEUE], "timeouts": "{}", "default_timeout": 1800.0, "most": 500}

HOT = [
    pytest.param(census.KEYS, {"queues": QUEUES}, "ix_jobs_available", id="groups"),
    pytest.param(census.COUNT, {"queue": QUEUE, **KEYS, "most": 100}, "ix_jobs_available", id="count"),
    pytest.param(census.OFFERED, {}, "ix_jobs_published", id="on offer"),
    pytest.param(census.EXECUTING, {}, "ix_jobs_executing", id="executing"),
    pytest.param(rows.PUBLISH, GROUP, "ix_jobs_available", id="publish"),
    pytest.param(rows.PUBLISH_SUSPECT, SUSPECT, "ix_jobs_suspects", id="publish a suspect"),
    pytest.param(rows.QUEUES, {}, "ix_jobs_available", id="queues"),
    pytest.param(rows.PROMOTE, {"queues": QUEUES, "most": 100}, "ix_jobs_waiting", id="promote"),
    pytest.param(rows.WAITING, {"queue": QUEUE, "most": 100}, "ix_jobs_waiting", id="waiting"),
    pytest.param(rows.ABANDONED, ABANDONED, "ix_jobs_executing", id="abandoned"),
    pytest.param(rows.LAPSE, {"queues": [QUEUE]}, "ix_jobs_published", id="lapse"),
    pytest.param(rows.OFFERED, ITEMS, "ix_jobs|jobs_pkey", id="offered"),
    pytest.param(rows.EXTEND, {**ITEMS, "seconds": 30.0}, "ix_jobs|jobs_pkey", id="extend"),
    pytest.param(ledger.CLAIM, CLAIM, "ix_jobs|jobs_pkey", id="claim"),
    pytest.param(ledger.UNPUBLISH, ITEMS, "ix_jobs|jobs_pkey", id="unpublish"),
    pytest.param(ledger.SETTLE, SETTLE, "ix_jobs|jobs_pkey", id="settle"),
    pytest.param(ledger.COMPLETE, COMPLETE, "ix_jobs|jobs_pkey", id="complete"),
    pytest.param(queries.LOAD, {"job_ids": ITEMS["ids"]}, "uq_emails_job_id", id="load mails"),
    pytest.param(queries.SETTLE, MAILS, "uq_emails_job_id", id="settle mails"),
    pytest.param(rows.EXPIRED, {"queues": [QUEUE], "most": 100}, "ix_jobs_expiring", id="expired"),
    pytest.param(gauges.COUNT_QUEUES, {"queues": [QUEUE], "most": 100}, "ix_jobs_discarded", id="dead letters"),
    pytest.param(gauges.COUNT_QUEUES, {"queues": [QUEUE], "most": 100}, "ix_jobs_waiting", id="overdue"),
    pytest.param(
        administration.FIND_BATCH, {"batch": "campaign:1", "limit": 100}, "ix_jobs_batch", id="what is left of a batch"
    ),
    pytest.param(gauges.COUNT_UNKNOWN, {"most": 100}, "ix_emails_status", id="unknown emails"),
]


@pytest.fixture(scope="module")
def full(postgres: Postgres, template_database: str) -> Iterator[Engine]:
    """A big table for all of these tests: they only ask."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DATABASE} TEMPLATE {template_database}")
    engine = engine_for(postgres.url(DATABASE))
    change(engine, FILL, rows=ROWS, queue=QUEUE)
    change(engine, FILL_EMAILS)
    change(engine, "ANALYZE jobs, emails")
    yield engine
    engine.dispose()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DATABASE} WITH (FORCE)")


@pytest.mark.parametrize(("statement", "values", "index"), HOT)
def test_a_hot_question_walks_its_index(full: Engine, statement: Any, values: dict[str, Any], index: str) -> None:
    with full.connect() as connection:
        found = plan(connection, statement, values)
    assert re.search(index, found), found
    assert not re.search("Seq Scan on (jobs|emails)", found), found


@pytest.mark.parametrize(("statement", "values", "index"), HOT)
def test_it_does_so_with_a_prepared_statements_generic_plan_too(
    full: Engine, statement: Any, values: dict[str, Any], index: str
) -> None:
    with full.connect() as connection:
        connection.execute(text("SET plan_cache_mode = force_generic_plan"))
        found = plan(connection, statement, values)
    assert re.search(index, found), found
    assert not re.search("Seq Scan on (jobs|emails)", found), found


def test_no_statistics_make_the_search_for_suspects_walk_the_backlog(full: Engine) -> None:
    with full.connect() as connection:
        connection.execute(text("DROP INDEX ix_jobs_suspects"))  # rolled back: what would be taken in its place?
        assert "ix_jobs_available" not in plan(connection, rows.PUBLISH_SUSPECT, SUSPECT)
        connection.rollback()
