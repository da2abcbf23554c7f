"""What Dramatiq on Redis does by itself and must not do here. Each trap was reproduced with Dramatiq 2.2 before."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine

from fleet import Fleet
from postfleet_workers import app as apps
from postfleet_workers.enqueue import enqueue, enqueue_many
from postfleet_workers.jobs import NewJob
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.settings import Settings
from postfleet_workers.worker.lanes import LaneWorker
from postfleet_workers.worker.process import Shape, assemble, dead_consumers

QUEUES = ("priority-high", "probe")


@pytest.fixture
def worker(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> Iterator[LaneWorker]:
    """A worker process' Dramatiq side, in this process."""
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", database_url)
    monkeypatch.setenv("POSTFLEET_REDIS_URL", redis_url)
    monkeypatch.setenv("POSTFLEET_JOB_MODULES", "probe_jobs")
    app = apps.build(Settings())
    worker, runner, lease = assemble(app, Shape(QUEUES, threads=3, shutdown_timeout_seconds=5))
    lease.start()
    worker.start()
    yield worker
    runner.stopping.set()
    worker.stop(timeout=5000)
    lease.stop()
    app.close()


def test_no_middleware_retries_delays_limits_or_times_anything(worker: LaneWorker) -> None:
    # Retries lose a job when its enqueue fails, count differently, and keep the last error only; TimeLimit's 10 minutes
    # are exactly how long RFC 5321 lets a server think about the final dot.
    assert [type(m).__name__ for m in worker.broker.middleware] == ["_WorkerMiddleware"]


def test_no_delay_queue_is_consumed(worker: LaneWorker) -> None:
    # Their consumers die silently on a timeout, and far-off messages block near ones.
    assert set(worker.consumers) == set(QUEUES)


def test_dramatiqs_own_maintenance_never_runs(worker: LaneWorker, redis_client: redis.Redis) -> None:
    # It re-queues what a process that was paused for a minute has in hand.
    redis_client.zadd("dramatiq:__heartbeats__", {"gone": 1})
    redis_client.sadd("dramatiq:__acks__.gone.probe", "m1")
    redis_client.hset("dramatiq:probe.msgs", "m1", "{}")
    for _ in range(2000):
        worker.broker.do_fetch("probe", 1)  # type: ignore[attr-defined]
    assert redis_client.smembers("dramatiq:__acks__.gone.probe") == {"m1"}


def test_a_consumer_that_died_is_noticed(worker: LaneWorker) -> None:
    assert dead_consumers(worker) == []
    consumer = worker.consumers["probe"]
    consumer.stop()
    consumer.join(10)
    assert dead_consumers(worker) == ["probe"]


def test_a_process_never_holds_more_messages_of_a_queue_than_it_has_threads(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    with engine.begin() as connection:
        enqueue_many(
            connection, [NewJob("probe.single", "probe", {"do": "sleep", "seconds": 0.02}) for _ in range(200)]
        )
    fleet.relay()
    fleet.worker("probe", threads=3)
    most = 0
    while set(fleet.states()) != {"completed"}:
        held = [redis_client.scard(key) for key in redis_client.scan_iter("dramatiq:__acks__.*.probe")]
        most = max([most, *held])
    assert 0 < most <= 3


def test_a_message_whose_ack_was_lost_neither_runs_again_nor_counts_as_backlog(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    fleet.relay()
    fleet.worker("probe")
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe", "probe"))
    assert fleet.settled() == {"completed": 1}
    Pipe(redis_client).push("probe", [("probe", [(job_id or 0, 1)])], int(time.time() * 1000))
    fleet.until(lambda: redis_client.hlen("dramatiq:probe.msgs") == 0, "the stale message gone")
    # The same, fetched by a live process that will never ack it: the relay deletes it.
    broker = next(iter(redis_client.zrange("dramatiq:__heartbeats__", 0, -1)))
    Pipe(redis_client).push("other", [("probe", [(job_id or 0, 1)])], int(time.time() * 1000))
    (message,) = redis_client.lpop("dramatiq:other", 1)
    redis_client.sadd(f"dramatiq:__acks__.{broker}.other", message)
    redis_client.sadd("postfleet:queues", "other")
    fleet.until(lambda: redis_client.hlen("dramatiq:other.msgs") == 0, "the lost ack made good")
    assert redis_client.hget("probe:runs", str(job_id)) == "1"


def test_limits_of_three_attempts_mean_three_executions(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    fleet.relay()
    fleet.worker("probe")
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe", "probe", {"do": "transient"}, max_attempts=3))
    assert fleet.settled() == {"discarded": 1}
    assert redis_client.hget("probe:runs", str(job_id)) == "3"
