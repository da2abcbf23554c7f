"""Queues with unfinished jobs that no pool works on: nobody else would ever say why those jobs do not run."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import psycopg

from postfleet_operator.cluster import Cluster
from postfleet_operator.reasons import EventReason, EventType

NOTICE_SECONDS = 3600.0
# A queue's jobs are counted no further than this, and of queues no more than that.
MOST_JOBS = 10_000
MOST_QUEUES = 100

# A loose index scan: one probe per queue, however many rows.
QUEUES = """
WITH RECURSIVE ready AS (
    (SELECT queue FROM jobs WHERE state = 'available' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM jobs WHERE state = 'available' AND queue > ready.queue ORDER BY queue LIMIT 1)
    FROM ready WHERE ready.queue IS NOT NULL
), waiting AS (
    (SELECT queue FROM jobs WHERE state IN ('scheduled', 'retryable') ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM jobs WHERE state IN ('scheduled', 'retryable') AND queue > waiting.queue
            ORDER BY queue LIMIT 1)
    FROM waiting WHERE waiting.queue IS NOT NULL
)
SELECT queue FROM ready WHERE queue IS NOT NULL AND queue <> ALL(%(served)s)
UNION SELECT queue FROM waiting WHERE queue IS NOT NULL AND queue <> ALL(%(served)s)
LIMIT %(most)s
"""

COUNT = """
SELECT asked.queue,
       (SELECT count(*) FROM (SELECT FROM jobs WHERE queue = asked.queue AND state = 'available'
                              LIMIT %(most)s) AS ready)
     + (SELECT count(*) FROM (SELECT FROM jobs WHERE queue = asked.queue AND state IN ('scheduled', 'retryable')
                              LIMIT %(most)s) AS waiting)
FROM unnest(%(queues)s::text[]) AS asked(queue)
"""


def count(connection: psycopg.Connection[Any], served: Collection[str]) -> dict[str, int]:
    """Unfinished jobs by queue, of the queues that are not `served`; no more than `MOST_JOBS` of a queue and state.

    Raises:
        psycopg.Error: PostgreSQL does not answer.
    """
    rows = connection.execute(QUEUES, {"served": list(served), "most": MOST_QUEUES}).fetchall()
    if not rows:
        return {}
    parameters = {"queues": [queue for (queue,) in rows], "most": MOST_JOBS}
    return {queue: int(jobs) for queue, jobs in connection.execute(COUNT, parameters)}


class Unserved:
    """Tells of such queues, of each once an hour."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told_at: dict[str, float] = {}

    def tell(self, jobs: Mapping[str, int], now: float) -> None:
        """Say which queues nobody works on; `jobs` has all of them."""
        self._told_at = {queue: at for queue, at in self._told_at.items() if queue in jobs}
        for queue, number in jobs.items():
            if now >= self._told_at.get(queue, -NOTICE_SECONDS) + NOTICE_SECONDS:
                self._told_at[queue] = now
                many = f"{number} or more" if number >= MOST_JOBS else str(number)
                message = f"queue {queue} has {many} unfinished jobs, but no JobPool lists it in spec.queues"
                self._cluster.notice(EventType.WARNING, EventReason.QUEUE_UNSERVED, message)
