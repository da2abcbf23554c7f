"""The operator's sampling against a real Dramatiq broker: what it counts is what Dramatiq keeps."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator

import dramatiq
import psycopg
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from sqlalchemy import Engine

from postfleet_operator.nodes import mirror
from postfleet_operator.reading import RelayRecord, parse_record
from postfleet_operator.sampling import Sampler
from postfleet_operator.scaling.values import Signal, Source
from postfleet_operator.spec import parse_node
from postfleet_operator.stores import database
from postfleet_operator.workerset import worker_sets
from postfleet_workers.placement import logical
from postfleet_workers.relay import gate
from postfleet_workers.relay.census import Group, Pipeful
from postfleet_workers.relay.gate import Node, Rules, Tenant
from postfleet_workers.relay.permits import Permits
from postfleet_workers.relay.record import compose, stand
from postfleet_workers.throttling.limits import Limit
from unit.operator.building import node_manifest, pool, workers

QUEUES = ["priority-high", "retry"]


@pytest.fixture
def broker(redis_client: redis.Redis, redis_url: str) -> Iterator[RedisBroker]:
    broker = RedisBroker(url=redis_url, middleware=[], maintenance_chance=0)
    for queue in QUEUES:
        broker.declare_queue(queue)
    yield broker
    broker.close()


def publish(broker: RedisBroker, queue: str, count: int) -> None:
    for number in range(count):
        broker.enqueue(dramatiq.Message(queue_name=queue, actor_name="a", args=(number,), kwargs={}, options={}))


def look(client: redis.Redis, mean_bundle_size: float = 1.0) -> Signal:
    seconds, microseconds = client.time()
    record = {
        "at": seconds + microseconds / 1e6,
        "poll_seconds": 0.5,
        "held": 0,
        "throttled": 0,
        "throttled_by": {},
        "scheduled": 0,
        "next_run_at": None,
        "oldest_seconds": 0,
        "running": 0,
        "running_bundles": 0,
        "mean_bundle_size": mean_bundle_size,
        "arrivals_per_second": 0.0,
        "permitted": {},
    }
    for queue in QUEUES:
        client.set(f"postfleet:relay:{queue}", json.dumps(record))
    sets = [workers(queues=QUEUES)]
    return Sampler(client, database("postgresql://unused.invalid/")).sample(sets, 0.0)["default/email"]


def test_waiting_and_fetched_messages_are_told_apart_and_none_is_missed(
    broker: RedisBroker, redis_client: redis.Redis
) -> None:
    publish(broker, "retry", 20)
    assert (look(redis_client).ready, look(redis_client).in_flight) == (20, 0)
    consumer = broker.consume("retry", prefetch=4)
    messages = [next(consumer) for _ in range(4)]
    signal = look(redis_client)
    assert (signal.ready, signal.in_flight, signal.backlog) == (16, 4, 20)
    for message in messages[:3]:
        consumer.ack(message)  # type: ignore[arg-type]
    assert look(redis_client).backlog == 17
    consumer.nack(messages[3])  # type: ignore[arg-type]
    assert look(redis_client).backlog == 16
    consumer.close()


def test_what_a_stopping_worker_gives_back_waits_again(broker: RedisBroker, redis_client: redis.Redis) -> None:
    publish(broker, "retry", 3)
    consumer = broker.consume("retry", prefetch=3)
    messages = [next(consumer) for _ in range(3)]
    assert look(redis_client).in_flight == 3
    consumer.requeue(messages)
    signal = look(redis_client)
    assert (signal.ready, signal.in_flight) == (3, 0)
    consumer.close()


def test_queues_of_a_pool_are_summed_and_messages_count_as_the_jobs_they_carry(
    broker: RedisBroker, redis_client: redis.Redis
) -> None:
    publish(broker, "priority-high", 2)
    publish(broker, "retry", 3)
    assert look(redis_client, mean_bundle_size=4.0).backlog == 20


def test_an_empty_pipe_with_fresh_records_is_a_healthy_nothing(redis_client: redis.Redis) -> None:
    signal = look(redis_client)
    assert (signal.source, signal.backlog) == (Source.REDIS, 0)


def test_the_relay_s_record_is_what_the_operator_reads() -> None:
    groups = [Group(("a", "", "n1"), 4, 6, 2.5, "t"), Group(("b", "", "n1"), 3, 0, 9.0, "t")]
    limit = Limit("m", "node n1 per_minute", 600, 60.0)
    node = Node((limit,), Limit("s", "node n1 maxConnections", 20, 1.0), frozenset(), paused=False)
    rules = Rules(tenants={"b": Tenant(paused=True)}, nodes={"n1": node})
    permits = Permits({}, {"m": 600, "s": 1000}, {"m": 10.0, "s": 200.0})
    published = {("a", "", "n1"): 2}
    written = compose(
        standings=stand("retry", groups, published, rules, permits),
        published_now=published,
        pipe={("a", "", "n1"): Pipeful(running=4, bundles=3)},
        messages=3,
        rules=rules,
        permits=permits,
        waiting=(5, 2000.5),
        arrivals_per_second=1.25,
        at=1000.25,
        poll_seconds=0.5,
    )
    assert parse_record(json.dumps(written)) == RelayRecord(
        at=1000.25,
        poll_seconds=0.5,
        held=2,
        throttled=3,
        throttled_by={"tenant b paused": 3},
        scheduled=5,
        next_run_at=2000.5,
        oldest_seconds=2.5,
        running=4,
        running_bundles=3,
        mean_bundle_size=4.0,
        arrivals_per_second=1.25,
        permitted={"node n1 per_minute": 10.0},
    )
    assert {field.name for field in dataclasses.fields(RelayRecord)} <= written.keys()


@pytest.mark.parametrize("placement", ["Shared", "Dedicated"])
def test_a_node_s_mail_goes_where_its_workers_listen(database_url: str, engine: Engine, placement: str) -> None:
    node = parse_node(node_manifest("acme-1", workers={"poolRef": {"name": "email"}, "placement": placement}))
    with psycopg.connect(database_url) as connection:
        mirror(connection, [node], "here")
    with engine.connect() as connection:
        rules = gate.read(connection)
    sets = {each.node_label: each for each in worker_sets([pool(queues=QUEUES)], [node])}
    served = sets.get("acme-1", sets["shared"])
    assert [rules.road(queue, "acme-1") for queue in QUEUES] == list(served.queues)
    assert [logical(queue, served.node_label) for queue in served.queues] == QUEUES
