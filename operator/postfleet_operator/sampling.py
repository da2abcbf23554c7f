"""Looks at the work of every pool: one Redis pipeline for all queues, PostgreSQL when that is no use.

The same pipeline announces the queues to the relay, so that it reports on one that never had a job.

The ladder: the relay's fresh records and Redis' own counts; else counts in PostgreSQL, no further than maxReplicas
could clear; else nothing, and the pool holds. A broken store is a signal, never an exception.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import psycopg
import redis
import structlog

from postfleet_operator.reading import QueueReading, parse_record, problems, sum_up
from postfleet_operator.scaling.values import Signal, Source
from postfleet_operator.spec import JobPool
from postfleet_operator.stores import Connect

log = structlog.get_logger(__name__)

# The set that tells the relay which queues there are, before they have had a row: it writes a record for each.
ANNOUNCED = "postfleet:queues"

# A database that does not answer is asked again after this long: the loop must not wait for it at every tick.
RETRY_SECONDS = 10.0

# Due jobs and running ones of some queues, each counted no further than `bound`. Waiting rows whose time has come are
# due too: without a relay nobody moves them. What people have paused, or routed to a node that is gone, is no work;
# what a limit holds, only the relay knows.
COUNT = """
WITH due AS (
    SELECT 1 FROM jobs AS j
    WHERE j.state IN ('available', 'scheduled', 'retryable') AND j.queue = ANY(%(queues)s)
      AND j.run_at <= postfleet_now() AND NOT j.cancel_requested
      AND (j.expires_at IS NULL OR j.expires_at > postfleet_now())
      AND NOT EXISTS (SELECT FROM holds AS h
                      WHERE (h.kind = 'queue' AND h.key = j.queue) OR (h.kind = 'batch' AND h.key = j.batch))
      AND NOT EXISTS (SELECT FROM tenants AS t WHERE t.name = j.tenant AND t.paused)
      AND (j.route = '' OR EXISTS (SELECT FROM sending_nodes AS n WHERE n.name = j.route AND NOT n.paused))
    LIMIT %(bound)s
), running AS (
    SELECT 1 FROM jobs WHERE state = 'executing' AND queue = ANY(%(queues)s) LIMIT %(bound)s
)
SELECT (SELECT count(*) FROM due), (SELECT count(*) FROM running)
"""


class Sampler:
    """The real `Signals`.

    Args:
        client: Redis, answers decoded.
        connect: opens a connection to PostgreSQL; used only while Redis is no use.
    """

    def __init__(self, client: redis.Redis, connect: Connect) -> None:
        self._client = client
        self._connect = connect
        self._database_retry_at = 0.0

    def sample(self, pools: Sequence[JobPool], now: float) -> Mapping[str, Signal]:
        """One signal per pool, by its key; `now` is epoch seconds."""
        queues = list(dict.fromkeys(queue for pool in pools for queue in pool.spec.queues))
        signals: dict[str, Signal] = {}
        broken: dict[str, tuple[JobPool, str]] = {}
        try:
            readings, server_time = self._read(queues)
        except redis.RedisError as error:
            broken = {pool.key: (pool, f"Redis cannot be read: {error}") for pool in pools}
        else:
            for pool in pools:
                own = [readings[queue] for queue in pool.spec.queues]
                if found := problems(own, server_time):
                    broken[pool.key] = (pool, found[0])
                else:
                    signals[pool.key] = sum_up(own)
        return signals | self._count(broken, now)

    def _read(self, queues: Sequence[str]) -> tuple[dict[str, QueueReading], float]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        if queues:
            pipeline.sadd(ANNOUNCED, *queues)
        for queue in queues:
            pipeline.hlen(f"dramatiq:{queue}.msgs")
            pipeline.llen(f"dramatiq:{queue}")
            pipeline.get(f"postfleet:relay:{queue}")
        time, *answers = pipeline.execute(raise_on_error=False)
        answers = answers[1:]  # without the announcement's: a queue that the relay does not know shows as no record
        if isinstance(time, redis.RedisError):  # not one queue but the server refuses (loading, no password)
            raise time
        seconds, microseconds = time
        triples = zip(queues, answers[::3], answers[1::3], answers[2::3], strict=True)
        return {queue: _reading(queue, *answer) for queue, *answer in triples}, seconds + microseconds / 1e6

    def _count(self, broken: Mapping[str, tuple[JobPool, str]], now: float) -> dict[str, Signal]:
        if not broken:
            return {}
        lost = {key: Signal(Source.NONE, why) for key, (_, why) in broken.items()}
        if now < self._database_retry_at:
            return lost
        try:
            with self._connect() as connection:
                return {key: _counted(connection, pool, why) for key, (pool, why) in broken.items()}
        except psycopg.Error as error:
            self._database_retry_at = now + RETRY_SECONDS
            reason = str(error).strip().splitlines()[0]
            log.warning("postgresql_unavailable", error=reason, retry_seconds=RETRY_SECONDS)
            return {key: Signal(Source.NONE, f"{why}, and PostgreSQL: {reason}") for key, (_, why) in broken.items()}


def _reading(queue: str, messages: object, waiting: object, record: object) -> QueueReading:
    for answer in (messages, waiting, record):
        if isinstance(answer, Exception):
            return QueueReading(queue, 0, 0, None, f"queue {queue} cannot be read in Redis: {answer}")
    text = record if isinstance(record, str) else None
    return QueueReading(queue, int(str(messages)), int(str(waiting)), parse_record(text))


def _counted(connection: psycopg.Connection[Any], pool: JobPool, why: str) -> Signal:
    policy = pool.spec.autoscaling
    bound = policy.max_replicas * policy.target.backlog_per_replica
    [(due, running)] = connection.execute(COUNT, {"queues": list(pool.spec.queues), "bound": bound}).fetchall()
    return Signal(Source.POSTGRESQL, why, held=due, running=running)
