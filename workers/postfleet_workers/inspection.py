"""What people look at: jobs and tenants, as plain rows. Reads only."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, text

# Newest first: with a limit, what happened lately is what one looks for.
JOBS = text("""
SELECT id, type, queue, tenant, batch, route, state, attempt, max_attempts, snoozes, priority, run_at, expires_at,
       args, unique_key, claimed_by, claimed_at, cancel_requested, last_error, created_at, finished_at
FROM jobs
WHERE (CAST(:state AS text) IS NULL OR state = :state) AND (CAST(:queue AS text) IS NULL OR queue = :queue)
  AND (CAST(:type AS text) IS NULL OR type = :type) AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
ORDER BY id DESC LIMIT :limit
""")
JOB = text("""
SELECT j.*, e.id AS email_id, e.status AS email_status
FROM jobs j LEFT JOIN emails e ON e.job_id = j.id WHERE j.id = :id
""")
ATTEMPTS = text("""
SELECT attempt, publication, worker, outcome, error, fenced, started_at, finished_at
FROM job_attempts WHERE job_id = :id ORDER BY id
""")
STATS = text("SELECT queue, state, count(*) AS count FROM jobs GROUP BY queue, state ORDER BY queue, state")
TENANTS = text("""
SELECT name, weight, per_minute, per_day, paused, created_at FROM tenants ORDER BY name
""")
Row = dict[str, Any]


def jobs(
    connection: Connection,
    *,
    state: str | None = None,
    queue: str | None = None,
    job_type: str | None = None,
    tenant: str | None = None,
    limit: int = 100,
) -> list[Row]:
    """The newest jobs that fit every filter given."""
    parameters = {"state": state, "queue": queue, "type": job_type, "tenant": tenant, "limit": limit}
    return [dict(row) for row in connection.execute(JOBS, parameters).mappings()]


def job(connection: Connection, job_id: int) -> Row | None:
    """Everything about one job: its row, its email if it has one, and its failed attempts under `attempts`."""
    row = connection.execute(JOB, {"id": job_id}).mappings().first()
    if row is None:
        return None
    attempts = connection.execute(ATTEMPTS, {"id": job_id}).mappings()
    return {**row, "attempts": [dict(attempt) for attempt in attempts]}


def stats(connection: Connection) -> list[Row]:
    """Counts by queue and state."""
    return [dict(row) for row in connection.execute(STATS).mappings()]


def tenants(connection: Connection) -> list[Row]:
    """Every tenant."""
    return [dict(row) for row in connection.execute(TENANTS).mappings()]
