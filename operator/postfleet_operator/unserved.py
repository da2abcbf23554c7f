"""Queues with unfinished jobs that nobody works on: nobody else would ever say why those jobs do not run.

Either no pool lists the queue, or it is the mail of a Dedicated node, whose own workers listen to the queues of one
pool only: what is queued elsewhere for that node waits on a road of Redis' that nobody takes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

import psycopg

from postfleet_operator.cluster import Cluster
from postfleet_operator.conditions import Problem
from postfleet_operator.reasons import EventReason, EventType, Reason
from postfleet_operator.rounds import due
from postfleet_operator.workerset import WorkerSet

NOTICE_SECONDS = 3600.0
# A queue's jobs are counted no further than this, and of queues no more than that.
MOST_JOBS = 10_000
MOST_QUEUES = 100
# Of the jobs that wait for their time, so many of each queue are looked at for roads: their rows have to be read.
MOST_NEXT = 500

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

# Jobs of some nodes in some queues; their route is `<node>` or `<node>/<site>`. Ready ones by a loose index scan, one
# probe per group; of those that wait, which no index tells by route, the next ones of each queue.
ROADS = """
WITH RECURSIVE groups AS (
    SELECT first.* FROM unnest(%(queues)s::text[]) AS asked(queue) CROSS JOIN LATERAL (
        SELECT queue, tenant, batch, route FROM jobs WHERE queue = asked.queue AND state = 'available'
        ORDER BY tenant, batch, route LIMIT 1) AS first
    UNION ALL
    SELECT next.* FROM groups AS g CROSS JOIN LATERAL (
        SELECT queue, tenant, batch, route FROM jobs WHERE queue = g.queue AND state = 'available'
          AND (tenant, batch, route) > (g.tenant, g.batch, g.route)
        ORDER BY tenant, batch, route LIMIT 1) AS next
), found AS (
    SELECT g.queue, split_part(g.route, '/', 1) AS node, ready.jobs FROM groups AS g CROSS JOIN LATERAL (
        SELECT count(*) AS jobs FROM (
            SELECT FROM jobs WHERE queue = g.queue AND state = 'available' AND tenant = g.tenant AND batch = g.batch
              AND route = g.route LIMIT %(most)s) AS counted) AS ready
    WHERE split_part(g.route, '/', 1) = ANY(%(nodes)s)
      AND g.queue || '.' || split_part(g.route, '/', 1) = ANY(%(roads)s)
    UNION ALL
    SELECT asked.queue, waiting.node, 1 FROM unnest(%(queues)s::text[]) AS asked(queue) CROSS JOIN LATERAL (
        SELECT split_part(route, '/', 1) AS node FROM jobs
        WHERE queue = asked.queue AND state IN ('scheduled', 'retryable')
        ORDER BY run_at LIMIT %(next)s) AS waiting
    WHERE waiting.node = ANY(%(nodes)s) AND asked.queue || '.' || waiting.node = ANY(%(roads)s)
)
SELECT queue, node, least(sum(jobs), %(most)s)::bigint FROM found GROUP BY 1, 2 ORDER BY 1, 2
"""


class Road(NamedTuple):
    """A queue of the ledger's, for the mail of one Dedicated node; written as Redis calls it."""

    queue: str
    node: str

    def __str__(self) -> str:
        return f"{self.queue}.{self.node}"


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


def roads(connection: psycopg.Connection[Any], served: Mapping[str, Collection[str]]) -> dict[Road, int] | None:
    """Unfinished jobs of Dedicated nodes in queues that their own workers do not listen to; about `MOST_JOBS` of each.

    None if there are so many groups of jobs that PostgreSQL did not get through them in time.

    Args:
        connection: to PostgreSQL.
        served: by node, the ledger's names of the queues that its workers listen to.

    Raises:
        psycopg.Error: PostgreSQL does not answer.
    """
    if not served:
        return {}
    try:
        return _roads(connection, served)
    except psycopg.errors.QueryCanceled:
        return None


def _roads(connection: psycopg.Connection[Any], served: Mapping[str, Collection[str]]) -> dict[Road, int]:
    by_all = set.intersection(*map(set, served.values()))
    rows = connection.execute(QUEUES, {"served": list(by_all), "most": MOST_QUEUES}).fetchall()
    asked = [Road(queue, node) for (queue,) in rows for node, queues in served.items() if queue not in queues]
    if not asked:
        return {}
    parameters = {
        "queues": list({road.queue for road in asked}),
        "nodes": list({road.node for road in asked}),
        "roads": [str(road) for road in asked],
        "most": MOST_JOBS,
        "next": MOST_NEXT,
    }
    return {Road(queue, node): int(jobs) for queue, node, jobs in connection.execute(ROADS, parameters)}


def problem(workers: WorkerSet, jobs: Mapping[Road, int]) -> Problem | None:
    """What a Dedicated node's own workers leave undone. Pure."""
    if workers.node is None:
        return None
    own = {road.queue: number for road, number in jobs.items() if road.node == workers.node.name}
    if not own:
        return None
    them = "it" if len(own) == 1 else "them"
    queues = ", ".join(f"{queue} ({_many(number)})" for queue, number in own.items())
    return Problem(
        Reason.QUEUE_UNSERVED,
        f"JobPool {workers.pool.name} sends for it and does not list {queues}, so nobody sends that mail: add {them} "
        f"to the pool's spec.queues, or name a pool that lists {them} in spec.workers.poolRef",
    )


def _many(number: int) -> str:
    jobs = f"{number} or more" if number >= MOST_JOBS else str(number)
    return f"{jobs} unfinished job{'' if number == 1 else 's'}"


class Unserved:
    """Tells of such queues, of each once an hour."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._told_at: dict[str, float] = {}

    def tell(self, jobs: Mapping[str, int], now: float) -> None:
        """Say which queues nobody works on; `jobs` has all of them."""
        self._told_at = {queue: at for queue, at in self._told_at.items() if queue in jobs}
        for queue, number in jobs.items():
            told_at = self._told_at.get(queue)
            if told_at is None or due(now, told_at + NOTICE_SECONDS, NOTICE_SECONDS):
                self._told_at[queue] = now
                message = f"queue {queue} has {_many(number)}, but no JobPool lists it in spec.queues"
                self._cluster.notice(EventType.WARNING, EventReason.QUEUE_UNSERVED, message)
