"""A trace from what really happened: how many jobs of a pool became ready in which second, from the ledger.

A finished job has been begun once per failed attempt, and a last time. The last time it became ready when it was
created or at its `run_at`, whichever is later; of the others only their beginning is on record, which is close enough.
What was cancelled before it began is no work, nor is mail of Dedicated nodes, which have workers of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg

from postfleet_operator.errors import InputError, StoreUnavailable, said
from postfleet_operator.simulation.trace import Trace, from_counts
from postfleet_operator.spec import JobPool
from postfleet_operator.stores import TIMEOUT_SECONDS, check_schema

# There is no index for this: a big ledger is read from end to end, once.
STATEMENT_SECONDS = 300

# What the client finds in a URL before it connects to anything.
INVALID = re.compile(r"connection is bad: invalid (\w+) value")

BEGINS = "SELECT floor(extract(epoch FROM postfleet_now()))::bigint - %(window)s"

ARRIVALS = """
WITH own AS (
    SELECT id, state, attempt, claimed_at, run_at, created_at FROM jobs AS j
    WHERE queue = ANY(%(queues)s) AND created_at < to_timestamp(%(begins)s + %(window)s)
      AND NOT EXISTS (SELECT FROM sending_nodes AS n
                      WHERE n.name = split_part(j.route, '/', 1) AND n.spec #>> '{workers,placement}' = 'Dedicated')
), ready AS (
    SELECT greatest(run_at, created_at) AS at FROM own
    WHERE state <> 'cancelled' OR claimed_at IS NOT NULL
    UNION ALL
    SELECT coalesce(a.started_at, a.finished_at) FROM job_attempts AS a JOIN own ON own.id = a.job_id
    WHERE NOT a.fenced AND NOT (own.state = 'discarded' AND a.attempt = own.attempt)
)
SELECT floor(extract(epoch FROM at))::bigint - %(begins)s AS second, count(*)
FROM ready WHERE at >= to_timestamp(%(begins)s) AND at < to_timestamp(%(begins)s + %(window)s)
GROUP BY 1
"""

# Thread-seconds per job of the pool's workers; their rows outlive them by a day.
SERVICE = """
SELECT sum(completed)::bigint, sum(busy_seconds)::float8 FROM workers
WHERE pool = %(pool)s AND node = 'shared' AND completed > 0
"""


@dataclass(frozen=True, slots=True)
class History:
    """What the database remembers.

    Attributes:
        trace: what arrived.
        began_at: epoch seconds of the trace's second 0.
        service_seconds: what a job took on average; None when no worker is on record.
    """

    trace: Trace
    began_at: float
    service_seconds: float | None


def read(database_url: str, pool: JobPool, window_seconds: int) -> History:
    """The last `window_seconds` of a pool's queues. Reads only.

    Raises:
        StoreUnavailable: PostgreSQL does not answer, or not in time.
        InputError: nothing arrived, or the URL cannot be used.
    """
    options = f"-c statement_timeout={STATEMENT_SECONDS * 1000} -c default_transaction_read_only=on -c timezone=UTC"
    try:
        with psycopg.connect(
            database_url, connect_timeout=TIMEOUT_SECONDS, application_name="postfleet-operator", options=options
        ) as connection:
            return _read(connection, pool, window_seconds)
    except psycopg.Error as error:
        words = said(error)
        if found := INVALID.search(words):
            raise InputError(f"POSTFLEET_DATABASE_URL: {found[1]} may not have that value") from None
        raise StoreUnavailable(f"PostgreSQL: {words}") from None


def _read(connection: psycopg.Connection[Any], pool: JobPool, window: int) -> History:
    check_schema(connection)
    [(begins,)] = connection.execute(BEGINS, {"window": window}).fetchall()
    where = {"queues": list(pool.spec.queues), "begins": begins, "window": window}
    counts: Mapping[int, int] = dict(connection.execute(ARRIVALS, where).fetchall())
    [(completed, busy_seconds)] = connection.execute(SERVICE, {"pool": pool.key}).fetchall()
    measured = busy_seconds / completed if completed and busy_seconds else None
    return History(from_counts(pool.name, counts, window), float(begins), measured)
