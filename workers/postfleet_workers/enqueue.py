"""Put jobs into the ledger, in the caller's own transaction: the ledger is the outbox.

    with engine.begin() as connection:
        connection.execute(...)                                    # the caller's own writes
        enqueue(connection, NewJob("email.send", "priority-high", {...}))
    # committed together, or not at all

The relay is woken by NOTIFY at commit.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sqlalchemy import Connection, text

from postfleet_workers.jobs import NewJob

if TYPE_CHECKING:
    from sqlalchemy.orm import Session  # a quarter of a worker's start-up, for a name

CHANNEL = "postfleet_jobs"

# A unique key that is taken returns no row. `ord` keeps the order of the answer.
INSERT_JOBS = text("""
WITH new AS (
    SELECT * FROM jsonb_to_recordset(CAST(:jobs AS jsonb)) AS n(
        ord integer, type text, queue text, tenant text, batch text, route text, priority smallint, args jsonb,
        unique_key text, max_attempts smallint, run_at timestamptz, expires_at timestamptz)
), numbered AS (
    SELECT *, nextval(pg_get_serial_sequence('jobs', 'id')) AS id FROM new
), inserted AS (
    INSERT INTO jobs (id, type, queue, tenant, batch, route, priority, args, unique_key, max_attempts, run_at,
                      expires_at, state)
    SELECT id, type, queue, tenant, batch, route, priority, args, unique_key, max_attempts,
           coalesce(run_at, postfleet_now()), expires_at,
           CASE WHEN run_at > postfleet_now() THEN 'scheduled' ELSE 'available' END
    FROM numbered ORDER BY ord
    ON CONFLICT (type, unique_key) WHERE unique_key IS NOT NULL AND state NOT IN ('cancelled', 'discarded') DO NOTHING
    RETURNING id
)
SELECT n.ord, i.id FROM numbered n LEFT JOIN inserted i USING (id) ORDER BY n.ord
""")
NOTIFY = text("SELECT pg_notify(:channel, queue) FROM unnest(CAST(:queues AS text[])) AS queue")


def enqueue(connection: Connection | Session, job: NewJob) -> int | None:
    """Add one job; its id, or None where a job of that type already has its unique key."""
    return enqueue_many(connection, [job])[0]


def enqueue_many(connection: Connection | Session, jobs: Sequence[NewJob]) -> list[int | None]:
    """Add jobs in one statement; ids in the order given, None where a unique key was taken."""
    if not jobs:
        return []
    rows = [
        {
            "ord": number, "type": job.type, "queue": job.queue, "tenant": job.tenant, "batch": job.batch,
            "route": job.route, "priority": job.priority, "args": dict(job.args), "unique_key": job.unique_key,
            "max_attempts": job.max_attempts, "run_at": job.run_at and job.run_at.isoformat(),
            "expires_at": job.expires_at and job.expires_at.isoformat(),
        }
        for number, job in enumerate(jobs)
    ]  # fmt: skip
    ids = [row.id for row in connection.execute(INSERT_JOBS, {"jobs": json.dumps(rows)})]
    notify(connection, sorted({job.queue for job in jobs}))
    return ids


def notify(connection: Connection | Session, queues: Sequence[str]) -> None:
    """Wake the relay for these queues when the transaction commits."""
    connection.execute(NOTIFY, {"channel": CHANNEL, "queues": list(queues)})
