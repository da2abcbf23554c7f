"""Sampling on a real Valkey and a real PostgreSQL: the ladder from the relay's record down to holding."""

from __future__ import annotations

import json
from typing import Any

import psycopg
import pytest
import redis
from structlog.testing import capture_logs

from postfleet_local.stack import free_port
from postfleet_operator.autoscaler import Autoscaler
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.progress import Progress
from postfleet_operator.sampling import RETRY_SECONDS, Sampler
from postfleet_operator.scaling.values import QueueLoad, Signal, Source
from postfleet_operator.spec import parse_node
from postfleet_operator.stores import database
from postfleet_operator.stores import redis_client as connect_redis
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import manifest, node_manifest, pool, workers

EMAIL = "default/email"
QUEUES = ("priority-high", "retry")


def record(client: redis.Redis, queue: str, age: float = 0.0, **fields: Any) -> None:
    seconds, microseconds = client.time()
    fresh = {
        "at": seconds + microseconds / 1e6 - age,
        "poll_seconds": 0.5,
        "held": 0,
        "throttled": 0,
        "throttled_by": {},
        "scheduled": 0,
        "next_run_at": None,
        "oldest_seconds": 0.0,
        "running": 0,
        "running_bundles": 0,
        "mean_bundle_size": 1.0,
        "arrivals_per_second": 0.0,
        "permitted": {},
    }
    client.set(f"postfleet:relay:{queue}", json.dumps(fresh | fields))


def insert(database_url: str, **row: Any) -> None:
    columns = {"type": "email.send", "queue": "retry"} | row
    names, marks = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    with psycopg.connect(database_url) as connection:
        connection.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", columns)


def run(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(statement)


def nowhere() -> str:
    return f"postgresql://nobody@127.0.0.1:{free_port()}/none"


def look(client: redis.Redis, database_url: str, *sets: WorkerSet) -> Signal:
    return Sampler(client, database(database_url)).sample(sets or (workers(),), 0.0)[EMAIL]


def test_fresh_records_and_redis_counts_are_enough(redis_client: redis.Redis) -> None:
    record(redis_client, "priority-high", held=5, throttled=7, throttled_by={"tenant x paused": 7}, oldest_seconds=2.5)
    record(redis_client, "retry", mean_bundle_size=10.0, running=3, scheduled=4, arrivals_per_second=1.5)
    redis_client.hset("dramatiq:retry.msgs", mapping={"a": "", "b": "", "c": ""})
    redis_client.rpush("dramatiq:retry", "a", "b")
    signal = look(redis_client, nowhere())
    assert signal == Signal(
        source=Source.REDIS,
        ready=20,
        in_flight=10,
        held=5,
        throttled=7,
        throttled_by={"tenant x paused": 7},
        scheduled=4,
        oldest_seconds=2.5,
        running=3,
        queues=(QueueLoad("priority-high", 5, 0.0, 2.5), QueueLoad("retry", 27, 1.5, 0.0)),
    )


def test_a_silent_relay_is_a_broken_signal_though_redis_works(redis_client: redis.Redis, database_url: str) -> None:
    record(redis_client, "priority-high")
    record(redis_client, "retry", age=30.0)
    insert(database_url)
    signal = look(redis_client, database_url)
    assert (signal.source, signal.healthy, signal.backlog) == (Source.POSTGRESQL, False, 1)
    assert signal.message.startswith("the relay's record of queue retry is 30.")


def test_no_record_at_all_is_a_broken_signal_too(redis_client: redis.Redis, database_url: str) -> None:
    signal = look(redis_client, database_url)
    assert (signal.source, signal.message) == (
        Source.POSTGRESQL,
        "the relay has written no record of queue priority-high",
    )


def test_a_key_of_the_wrong_type_breaks_only_the_pools_of_its_queue(
    redis_client: redis.Redis, database_url: str
) -> None:
    for queue in (*QUEUES, "other"):
        record(redis_client, queue)
    redis_client.set("dramatiq:retry", "oops")
    sets = [workers(), workers("second", queues=["other"])]
    signals = Sampler(redis_client, database(database_url)).sample(sets, 0.0)
    assert (signals[EMAIL].source, signals["default/second"].source) == (Source.POSTGRESQL, Source.REDIS)
    assert "queue retry cannot be read in Redis" in signals[EMAIL].message


def test_without_redis_postgresql_counts_what_is_due_and_what_runs(database_url: str) -> None:
    insert(database_url)
    insert(database_url, queue="priority-high")
    insert(database_url, state="executing", claimed_by="w-1")
    insert(database_url, state="retryable", run_at="2020-01-01")
    for ignored in (
        {"queue": "elsewhere"},
        {"state": "scheduled", "run_at": "2999-01-01"},
        {"state": "completed"},
        {"expires_at": "2020-01-01"},
        {"cancel_requested": True},
    ):
        insert(database_url, **ignored)
    client = connect_redis(f"redis://127.0.0.1:{free_port()}/0")
    signal = look(client, database_url)
    assert (signal.source, signal.held, signal.running, signal.backlog) == (Source.POSTGRESQL, 3, 1, 4)
    assert signal.message.startswith("Redis cannot be read: ")


def test_what_people_have_paused_is_no_work(redis_client: redis.Redis, database_url: str) -> None:
    run(database_url, "INSERT INTO tenants (name, paused) VALUES ('quiet', true)")
    run(database_url, "INSERT INTO holds (kind, key) VALUES ('batch', 'campaign:7'), ('queue', 'priority-high')")
    run(
        database_url,
        "INSERT INTO sending_nodes (name, spec, paused) VALUES ('acme-1', '{}', true), ('acme-2', '{}', false)",
    )
    insert(database_url, tenant="quiet")
    insert(database_url, batch="campaign:7")
    insert(database_url, queue="priority-high")
    insert(database_url, route="acme-1")
    insert(database_url, route="acme-1/gmail")
    insert(database_url, route="gone")
    insert(database_url, batch="campaign:8", route="acme-2")
    insert(database_url, batch="campaign:8", route="acme-2/gmail")
    assert look(redis_client, database_url).backlog == 2


def test_a_dedicated_node_s_mail_counts_for_its_own_workers_whatever_its_site(
    redis_client: redis.Redis, database_url: str
) -> None:
    dedicated = '{"workers": {"placement": "Dedicated"}}'
    run(database_url, f"INSERT INTO sending_nodes (name, spec) VALUES ('own', '{dedicated}'), ('shared', '{{}}')")
    for route in ("own", "own/gmail", "shared/gmail"):
        insert(database_url, route=route)
        insert(database_url, route=route, state="executing", claimed_by="w-1")
    own = parse_node(node_manifest("own", workers={"poolRef": {"name": "email"}, "placement": "Dedicated"}))
    sets = [WorkerSet(pool()), WorkerSet(pool(), own)]
    signals = Sampler(redis_client, database(database_url)).sample(sets, 0.0)
    found = [signals[each.key] for each in sets]
    assert [(each.held, each.running) for each in found] == [(1, 1), (2, 2)]


def test_counting_stops_at_what_max_replicas_can_clear(redis_client: redis.Redis, database_url: str) -> None:
    run(database_url, "INSERT INTO jobs (type, queue) SELECT 't', 'retry' FROM generate_series(1, 1000)")
    small = workers(autoscaling={"maxReplicas": 3, "target": {"backlogPerReplica": 50}})
    assert look(redis_client, database_url, small).held == 150


def test_the_clock_of_the_database_decides_what_is_due(redis_client: redis.Redis, database_url: str) -> None:
    insert(database_url, state="scheduled", run_at="2999-01-01")
    assert look(redis_client, database_url).backlog == 0
    name = psycopg.conninfo.conninfo_to_dict(database_url)["dbname"]
    run(database_url, f"ALTER DATABASE {name} SET postfleet.clock_offset = '1000 years'")
    assert look(redis_client, database_url).backlog == 1


def test_with_nothing_to_read_the_pool_holds_and_the_database_is_not_asked_at_every_look() -> None:
    attempts = 0

    def connect() -> psycopg.Connection[Any]:
        nonlocal attempts
        attempts += 1
        return database(nowhere())()

    sampler = Sampler(connect_redis(f"redis://127.0.0.1:{free_port()}/0"), connect)
    for now in (0.0, 2.0, 4.0):
        signal = sampler.sample([workers()], now)[EMAIL]
        assert (signal.source, signal.backlog) == (Source.NONE, 0)
    assert attempts == 1
    assert "PostgreSQL: connection" in sampler.sample([workers()], RETRY_SECONDS)[EMAIL].message
    assert attempts == 2


def test_redis_that_goes_is_told_once_and_so_is_its_return(redis_url: str, redis_client: redis.Redis) -> None:
    client = connect_redis(redis_url)
    sampler = Sampler(client, database(nowhere()))
    there, away = client.connection_pool, connect_redis(f"redis://127.0.0.1:{free_port()}/0").connection_pool
    with capture_logs() as lines:
        for pool in (there, away, away, there, there):
            client.connection_pool = pool
            sampler.sample([workers()], 0.0)
    assert [(line["event"], line["log_level"]) for line in lines if "redis" in line["event"]] == [
        ("redis_lost", "warning"),
        ("redis_restored", "info"),
    ]
    assert "Connection refused" in next(line["error"] for line in lines if line["event"] == "redis_lost")


def test_a_slow_database_counts_as_no_signal(redis_client: redis.Redis, database_url: str) -> None:
    with psycopg.connect(database_url) as blocking:
        blocking.execute("LOCK TABLE jobs IN ACCESS EXCLUSIVE MODE")
        signal = look(redis_client, database_url)
    assert signal.source is Source.NONE
    assert "canceling statement due to statement timeout" in signal.message


def test_queues_are_announced_to_the_relay_even_before_it_reports(redis_client: redis.Redis) -> None:
    look(redis_client, nowhere(), workers(), workers("second", queues=["other"]))
    assert redis_client.smembers("postfleet:queues") == {*QUEUES, "other"}


def test_no_pools_need_no_answer() -> None:
    assert Sampler(connect_redis(f"redis://127.0.0.1:{free_port()}/0"), database(nowhere())).sample([], 0.0) == {}


@pytest.mark.parametrize("held", [0, 1200])
def test_a_pool_outlives_a_flushed_redis(redis_client: redis.Redis, database_url: str, held: int) -> None:
    cluster = MemoryCluster(instant=True)
    cluster.put(manifest(autoscaling={"cooldownSeconds": 0}))
    connect = database(database_url)
    sampler, progress = Sampler(redis_client, connect), Progress(connect)
    loop = Autoscaler(cluster, sampler, progress, lambda: 0.0, RenderSettings("image"))
    for queue in QUEUES:
        record(redis_client, queue, held=1000)
    loop.tick(1000.0)
    assert cluster.replicas(EMAIL) == 4
    redis_client.flushall()
    run(database_url, f"INSERT INTO jobs (type, queue) SELECT 't', 'retry' FROM generate_series(1, {held * 2})")
    loop.tick(1100.0)
    assert cluster.replicas(EMAIL) == (5 if held else 4)
    for queue in QUEUES:
        record(redis_client, queue)
    for now in (1200.0, 1212.0):
        loop.tick(now)
    progress.close()
    assert cluster.replicas(EMAIL) == 0
