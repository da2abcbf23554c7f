"""Looks at the work of every set of workers: one Redis pipeline for all queues, PostgreSQL when that is no use.

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

from postfleet_operator import rounds
from postfleet_operator.errors import said
from postfleet_operator.reading import QueueReading, parse_record, problems, sum_up
from postfleet_operator.scaling.values import QueueLoad, Signal, Source
from postfleet_operator.stores import Connect
from postfleet_operator.workerset import WorkerSet

log = structlog.get_logger(__name__)

# The set that tells the relay which queues there are, before they have had a row: it writes a record for each.
ANNOUNCED = "postfleet:queues"
HEARTBEATS = "dramatiq:__heartbeats__"
# A broker is called `<replica>-<uuid>`.
UUID_LENGTH = len("-00000000-0000-0000-0000-000000000000")

# A database that does not answer is asked again after this long: the loop must not wait for it at every tick.
RETRY_SECONDS = 10.0
# Nobody counts further than this many jobs per thread that maxReplicas could bring, and this many in all.
COUNT_PER_THREAD = 100
COUNT_MOST = 100_000

# Due jobs and running ones of some queues, each counted no further than `bound`. Waiting rows whose time has come are
# due too: without a relay nobody moves them. What people have paused, or routed to a node that is gone, is no work;
# what a limit holds, only the relay knows. A Dedicated node's mail (`only`) is its own workers', and nobody else's.
# Mail's route is `<node>` or `<node>/<site>`.
COUNT = """
WITH dedicated AS (
    SELECT name FROM sending_nodes WHERE spec #>> '{workers,placement}' = 'Dedicated'
), due AS (
    SELECT 1 FROM jobs AS j
    WHERE j.state IN ('available', 'scheduled', 'retryable') AND j.queue = ANY(%(queues)s)
      AND j.run_at <= postfleet_now() AND NOT j.cancel_requested
      AND (j.expires_at IS NULL OR j.expires_at > postfleet_now())
      AND NOT EXISTS (SELECT FROM holds AS h
                      WHERE (h.kind = 'queue' AND h.key = j.queue) OR (h.kind = 'batch' AND h.key = j.batch))
      AND NOT EXISTS (SELECT FROM tenants AS t WHERE t.name = j.tenant AND t.paused)
      AND (j.route = ''
           OR EXISTS (SELECT FROM sending_nodes AS n WHERE n.name = split_part(j.route, '/', 1) AND NOT n.paused))
      AND (split_part(j.route, '/', 1) = %(only)s
           OR (%(only)s = '' AND split_part(j.route, '/', 1) NOT IN (SELECT name FROM dedicated)))
    LIMIT %(bound)s
), running AS (
    SELECT 1 FROM jobs AS j
    WHERE j.state = 'executing' AND j.queue = ANY(%(queues)s)
      AND (split_part(j.route, '/', 1) = %(only)s
           OR (%(only)s = '' AND split_part(j.route, '/', 1) NOT IN (SELECT name FROM dedicated)))
    LIMIT %(bound)s
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
        self._redis_lost = False

    def sample(self, sets: Sequence[WorkerSet], now: float) -> Mapping[str, Signal]:
        """One signal per set, by its key; `now` is epoch seconds."""
        queues = dict.fromkeys(workers.physical(queue) for workers in sets for queue in workers.own_queues)
        announced = dict.fromkeys(queue for workers in sets for queue in workers.pool.spec.queues)
        signals: dict[str, Signal] = {}
        broken: dict[str, tuple[WorkerSet, str]] = {}
        try:
            readings, server_time = self._read(list(queues), list(announced))
        except redis.RedisError as error:
            broken = {workers.key: (workers, f"Redis cannot be read: {error}") for workers in sets}
            self._tell_redis(error)
        else:
            self._tell_redis(None)
            for workers in sets:
                own = [readings[workers.physical(queue)].named(queue) for queue in workers.own_queues]
                if found := problems(own, server_time):
                    broken[workers.key] = (workers, found[0])
                else:
                    signals[workers.key] = sum_up(own)
        return signals | self._count(broken, now)

    def _tell_redis(self, error: redis.RedisError | None) -> None:
        """Say when Redis is lost, and when it is back."""
        before, self._redis_lost = self._redis_lost, error is not None
        if self._redis_lost and not before:
            log.warning("redis_lost", error=str(error))
        elif before and not self._redis_lost:
            log.info("redis_restored")

    def in_flight(self, workers: WorkerSet) -> Mapping[str, int]:
        """Messages that each worker has fetched and not finished, by replica; empty when Redis does not tell."""
        try:
            brokers: Any = self._client.zrange(HEARTBEATS, 0, -1)
            pipeline = self._client.pipeline(transaction=False)
            asked = [(broker, queue) for broker in brokers for queue in workers.queues]
            for broker, queue in asked:
                pipeline.scard(f"dramatiq:__acks__.{broker}.{queue}")
            counts = pipeline.execute()
        except redis.RedisError as error:
            log.warning("in_flight_not_read", workers=workers.key, error=str(error))
            return {}
        found: dict[str, int] = {}
        for (broker, _), count in zip(asked, counts, strict=True):
            replica = broker[:-UUID_LENGTH]
            found[replica] = found.get(replica, 0) + int(count)
        return found

    def _read(self, queues: Sequence[str], announced: Sequence[str]) -> tuple[dict[str, QueueReading], float]:
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        if announced:
            pipeline.sadd(ANNOUNCED, *announced)
        for queue in queues:
            pipeline.hlen(f"dramatiq:{queue}.msgs")
            pipeline.llen(f"dramatiq:{queue}")
            pipeline.get(f"postfleet:relay:{queue}")
        time, *answers = pipeline.execute(raise_on_error=False)
        # Without the announcement's: a queue that the relay does not know shows as no record.
        answers = answers[bool(announced) :]
        if isinstance(time, redis.RedisError):  # not one queue but the server refuses (loading, no password)
            raise time
        seconds, microseconds = time
        triples = zip(queues, answers[::3], answers[1::3], answers[2::3], strict=True)
        return {queue: _reading(queue, *answer) for queue, *answer in triples}, seconds + microseconds / 1e6

    def _count(self, broken: Mapping[str, tuple[WorkerSet, str]], now: float) -> dict[str, Signal]:
        if not broken:
            return {}
        lost = {key: Signal(Source.NONE, why) for key, (_, why) in broken.items()}
        if not rounds.due(now, self._database_retry_at, RETRY_SECONDS):
            return lost
        try:
            with self._connect() as connection:
                return {key: _counted(connection, each, why) for key, (each, why) in broken.items()}
        except psycopg.Error as error:
            self._database_retry_at = now + RETRY_SECONDS
            reason = said(error)
            log.warning("postgresql_unavailable", error=reason, retry_seconds=RETRY_SECONDS)
            return {key: Signal(Source.NONE, f"{why}, and PostgreSQL: {reason}") for key, (_, why) in broken.items()}


def _reading(queue: str, messages: object, listed: object, record: object) -> QueueReading:
    for answer in (messages, listed, record):
        if isinstance(answer, Exception):
            return QueueReading(queue, 0, 0, None, f"queue {queue} cannot be read in Redis: {answer}")
    text = record if isinstance(record, str) else None
    return QueueReading(queue, int(str(messages)), int(str(listed)), parse_record(text))


def _counted(connection: psycopg.Connection[Any], workers: WorkerSet, why: str) -> Signal:
    spec, queues = workers.pool.spec, list(workers.own_queues)
    parameters = {
        "queues": queues,
        "only": "" if workers.node is None else workers.node.name,
        "bound": _bound(workers),
    }
    [(due, running)] = connection.execute(COUNT, parameters).fetchall()
    # Which queue they wait in was not counted: the tightest target counts.
    tightest = min(queues, key=lambda queue: spec.autoscaling.target.latency_for(queue) or 0, default="")
    return Signal(
        Source.POSTGRESQL, why, held=due, running=running, queues=(QueueLoad(tightest, due),) if tightest else ()
    )


def _bound(workers: WorkerSet) -> int:
    policy = workers.pool.spec.autoscaling
    if (per_replica := policy.target.backlog_per_replica) is not None:
        return policy.max_replicas * per_replica
    return min(policy.max_replicas * workers.pool.spec.worker.capacity * COUNT_PER_THREAD, COUNT_MOST)
