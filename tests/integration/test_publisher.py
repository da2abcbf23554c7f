"""Ticks of the relay's publisher on a real PostgreSQL and a real Redis: who gets into the pipe, and what is said."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from integration.ledger_steps import QUEUE, add, ask, change
from postfleet_workers import epoch
from postfleet_workers.jobs import JobType, NewJob, Registry
from postfleet_workers.leases import LiveWorker
from postfleet_workers.relay import gate
from postfleet_workers.relay.publisher import CLOSED_LIMIT, FLOOR_SLOTS, Look, Publisher
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.redis import RedisLimiter

SETTINGS = Settings(database_url="postgresql://unused", redis_url="redis://unused")
BULK = JobType("bulk", QUEUE, lambda jobs, run: iter(()), bundle_size=50)  # type: ignore[arg-type]
SINGLE = JobType("single", QUEUE, lambda jobs, run: iter(()))  # type: ignore[arg-type]
MANY = """
INSERT INTO jobs (type, queue, tenant, batch) SELECT 'bulk', :queue, 'default', :batch FROM generate_series(1, :count)
"""
PACE: dict[Any, Any] = {"bulk|": "0.01", "bulk|n1": "0.01"}  # 100 a second


class Relay:
    """The publisher with what a relay's loop reads for it."""

    def __init__(self, engine: Engine, client: redis.Redis) -> None:
        self.engine = engine
        self.client = client
        self.pipe = Pipe(client)
        self.publisher = Publisher(self.pipe, RedisLimiter(client), Registry([BULK, SINGLE]), SETTINGS)

    def tick(self, threads: int = 0, *, full: bool = True) -> Look:
        (look,) = self.tick_all([QUEUE], threads, full=full)
        return look

    def tick_all(self, queues: Sequence[str], threads: int = 0, *, full: bool = True) -> list[Look]:
        return self.tick_live(queues, [LiveWorker("w", tuple(queues), threads)] if threads else [], full=full)

    def tick_live(self, queues: Sequence[str], live: Sequence[LiveWorker], *, full: bool = True) -> list[Look]:
        with self.engine.connect() as connection:
            with connection.begin():
                rules = gate.read(connection)
            looks = self.publisher.publish(connection, queues, rules, live, full=full)
            if full:
                self.publisher.report(connection, looks, rules)
        return looks

    def record(self, road: str = QUEUE) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(str(self.client.get(f"postfleet:relay:{road}")))
        return found

    def messages(self, road: str = QUEUE) -> list[list[int]]:
        """The pipe's bundles, as job ids."""
        ids = self.client.lrange(f"dramatiq:{road}", 0, -1)
        by_id = {message.id: [job for job, _ in message.items] for message in self.pipe.messages(road)}
        return [by_id[str(one)] for one in ids]

    def run_all(self) -> None:
        """As workers would in no time: everything published is completed, every message acked."""
        change(self.engine, "UPDATE jobs SET state = 'completed' WHERE published_until IS NOT NULL")
        self.client.delete(f"dramatiq:{QUEUE}", f"dramatiq:{QUEUE}.msgs")


@pytest.fixture
def relay(engine: Engine, redis_client: redis.Redis) -> Relay:
    epoch.keep(redis_client, live_workers=False)
    redis_client.hset("postfleet:pace", mapping=PACE)
    return Relay(engine, redis_client)


def jobs(count: int, **values: Any) -> Sequence[NewJob]:
    return [NewJob("bulk", QUEUE, **values)] * count


def node(engine: Engine, name: str = "n1", **limits: int) -> None:
    spec = json.dumps({"limits": limits})
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES (:name, CAST(:spec AS jsonb))", name=name, spec=spec)


def dedicate(engine: Engine, name: str = "own") -> None:
    node(engine, name)
    change(
        engine,
        "UPDATE sending_nodes SET spec = spec || CAST(:w AS jsonb) WHERE name = :name",
        name=name,
        w=json.dumps({"workers": {"placement": "Dedicated", "poolRef": {"name": "email"}}}),
    )


def test_a_dedicated_nodes_mail_goes_its_own_road_with_slots_by_its_own_workers(engine: Engine, relay: Relay) -> None:
    node(engine)
    dedicate(engine)
    shared = add(engine, *jobs(100, route="n1"))
    own = add(engine, *jobs(100, route="own"))
    live = [LiveWorker("w", (QUEUE,), 2), LiveWorker("x", (f"{QUEUE}.own",), 16, "own")]
    by_road = {look.road: look for look in relay.tick_live([QUEUE], live)}
    assert {road: sum(look.published.values()) for road, look in by_road.items()} == {QUEUE: 8, f"{QUEUE}.own": 32}
    assert {job for bundle in relay.messages() for job in bundle} <= set(shared)
    assert {job for bundle in relay.messages(f"{QUEUE}.own") for job in bundle} <= set(own)
    assert (relay.record()["held"], relay.record(f"{QUEUE}.own")["held"]) == (92, 68)
    assert (relay.record()["on_offer"], relay.record(f"{QUEUE}.own")["on_offer"]) == (8, 32)
    assert json.loads(str(relay.client.hvals(f"dramatiq:{QUEUE}.own.msgs")[0]))["queue_name"] == f"{QUEUE}.own"


def test_a_dedicated_node_without_work_or_workers_is_told_of_all_the_same(engine: Engine, relay: Relay) -> None:
    dedicate(engine)
    relay.tick_all([QUEUE, "retry"], 4)
    for road in (f"{QUEUE}.own", "retry.own"):
        assert (relay.record(road)["held"], relay.record(road)["permitted"]) == (0, {})
    change(engine, "DELETE FROM sending_nodes")
    add(engine, *jobs(7, route="own"))
    (look,) = relay.tick_all([QUEUE], 4)
    assert (look.road, look.published, look.hungry) == (QUEUE, {}, False)
    assert relay.record()["throttled_by"] == {"node own unknown": 7}, "what waits for a node that is gone is shown"


def test_a_full_road_holds_up_no_other_of_its_queue(engine: Engine, relay: Relay) -> None:
    dedicate(engine)
    add(engine, *jobs(100, route="own"))
    relay.tick_all([QUEUE], 4)
    urgent = add(engine, *jobs(3))
    looks = relay.tick_all([QUEUE], 4, full=False)
    assert [look.slots for look in looks] == [8, 0]
    assert relay.messages() == [[job_id] for job_id in urgent]


def test_a_suspect_of_a_dedicated_node_goes_its_road_and_is_alone_in_the_whole_queue(
    engine: Engine, relay: Relay
) -> None:
    dedicate(engine)
    own, other = add(engine, *jobs(1, route="own"), *jobs(1))
    change(engine, "UPDATE jobs SET strikes = 2")
    relay.tick_all([QUEUE])
    found = {job for road in (QUEUE, f"{QUEUE}.own") for bundle in relay.messages(road) for job in bundle}
    assert found == {other}
    change(engine, "UPDATE jobs SET state = 'completed' WHERE id = :id", id=other)
    relay.tick_all([QUEUE])
    assert relay.messages(f"{QUEUE}.own") == [[own]]


def test_arrivals_are_told_for_each_road(engine: Engine, relay: Relay) -> None:
    dedicate(engine)
    relay.tick_all([QUEUE], 4)
    add(engine, *jobs(30, route="own"))
    relay.tick_all([QUEUE], 4)
    assert relay.record()["arrivals_per_second"] == 0
    assert relay.record(f"{QUEUE}.own")["arrivals_per_second"] > 0


def test_without_a_worker_a_few_bundles_of_one_wait_for_the_first(engine: Engine, relay: Relay) -> None:
    ids = add(engine, *jobs(100))
    look = relay.tick()
    assert relay.messages() == [[job_id] for job_id in ids[:FLOOR_SLOTS]], "a new route starts with bundles of one"
    assert look.hungry
    assert (relay.record()["held"], relay.record()["mean_bundle_size"]) == (92, 1.0)


def test_bundles_double_while_the_pace_allows(engine: Engine, relay: Relay) -> None:
    add(engine, *jobs(2000))
    sizes = []
    for _ in range(8):
        relay.tick()
        sizes.append(max(len(bundle) for bundle in relay.messages()))
        relay.run_all()
    assert sizes == [1, 2, 4, 8, 16, 32, 50, 50]


def test_the_pipe_never_holds_more_than_its_threads_can_take_soon(engine: Engine, relay: Relay) -> None:
    add(engine, *jobs(500))
    relay.tick(threads=16)
    assert len(relay.messages()) == 32
    look = relay.tick(threads=16)
    assert (look.slots, look.published) == (0, {})
    assert len(relay.messages()) == 32


def test_sessions_let_through_what_they_can_by_how_long_a_job_holds_one(
    engine: Engine, relay: Relay, redis_client: redis.Redis
) -> None:
    """Eight at once take an eighth of a thread's time each, and hold their sessions for all of it."""
    node(engine, maxConnections=2)
    redis_client.hset("postfleet:pace", "bulk|n1", "0.125")
    redis_client.hset("postfleet:pace:held", "bulk|n1", "1.0")
    add(engine, *jobs(50, route="n1"))
    relay.tick(threads=8)
    assert sum(len(ids) for ids in relay.messages()) == 4, "what two sessions can do in two seconds"


def test_types_are_never_mixed_in_a_bundle(engine: Engine, relay: Relay) -> None:
    mixed = [NewJob("bulk" if n % 2 else "single", QUEUE, {"n": n}) for n in range(20)]
    add(engine, *mixed)
    for _ in range(4):
        relay.tick()
        kinds = {row.id: row.type for row in ask(engine, "SELECT id, type FROM jobs")}
        for bundle in relay.messages():
            assert len({kinds[job_id] for job_id in bundle}) == 1
            assert len(bundle) == 1 or kinds[bundle[0]] == "bulk"
        relay.run_all()


def test_every_tenant_gets_its_turn_though_there_are_more_than_slots(engine: Engine, relay: Relay) -> None:
    add(engine, *[NewJob("single", QUEUE, tenant=f"tenant-{n % 40:02}") for n in range(800)])
    served: Counter[str] = Counter()
    for _ in range(20):
        look = relay.tick()
        served.update({tenant: count for (tenant, *_), count in look.published.items()})
        relay.run_all()
    assert len(served) == 40
    assert set(served.values()) == {20 * FLOOR_SLOTS // 40}


@pytest.mark.parametrize(
    ("hold", "reason"),
    [
        pytest.param("INSERT INTO holds VALUES ('queue', 'bulk')", "queue bulk paused", id="queue"),
        pytest.param("INSERT INTO holds VALUES ('batch', 'campaign:7')", "campaign 7 paused", id="campaign"),
        pytest.param("INSERT INTO tenants (name, paused) VALUES ('acme', true)", "tenant acme paused", id="tenant"),
        pytest.param("UPDATE sending_nodes SET paused = true", "node n1 paused", id="node"),
        pytest.param("DELETE FROM sending_nodes", "node n1 unknown", id="node gone"),
        pytest.param("UPDATE sending_nodes SET spec = '[]'", "node n1 has an invalid spec", id="node of no sense"),
        pytest.param(
            "ALTER TABLE tenants DROP CONSTRAINT ck_tenants_weight;"
            "INSERT INTO tenants (name, weight) VALUES ('acme', 0)",
            "tenant acme has an invalid row",
            id="tenant of no sense",
        ),
    ],
)
def test_what_is_paused_stays_out_of_the_pipe_and_hurries_nobody(
    engine: Engine, relay: Relay, hold: str, reason: str
) -> None:
    node(engine)
    add(engine, *jobs(30, tenant="acme", batch="campaign:7", route="n1"))
    change(engine, hold)
    look = relay.tick()
    assert relay.messages() == []
    assert not look.hungry
    record = relay.record()
    assert (record["held"], record["throttled"], record["throttled_by"]) == (0, 30, {reason: 30})


def test_a_suspect_of_a_paused_tenant_waits_and_keeps_no_other_waiting(engine: Engine, relay: Relay) -> None:
    paused, other = add(engine, *jobs(1, tenant="acme"), *jobs(1, tenant="other"))
    change(engine, "UPDATE jobs SET strikes = 2")
    change(engine, "INSERT INTO tenants (name, paused) VALUES ('acme', true)")
    relay.tick()
    assert relay.messages() == [[other]]
    assert paused < other


def test_a_suspect_does_not_wait_for_a_pipe_that_is_always_full(engine: Engine, relay: Relay) -> None:
    (suspect,) = add(engine, *jobs(1))
    change(engine, "UPDATE jobs SET strikes = 2")
    add(engine, *jobs(100))
    for number in range(FLOOR_SLOTS):
        relay.pipe.push(QUEUE, [("bulk", [(10**6 + number, 1)])], 0)
    relay.tick()
    assert [suspect] in relay.messages()
    assert relay.record()["held"] == 100, "suspects are offered, never counted"
    relay.tick()
    assert relay.messages().count([suspect]) == 1


def test_much_that_is_paused_is_counted_only_so_far(engine: Engine, relay: Relay) -> None:
    change(engine, "INSERT INTO holds VALUES ('batch', 'campaign:7')")
    change(engine, MANY, queue=QUEUE, batch="campaign:7", count=3 * CLOSED_LIMIT)
    add(engine, *jobs(FLOOR_SLOTS + 5))
    relay.tick()
    record = relay.record()
    assert (record["held"], record["throttled_by"]) == (5, {"campaign 7 paused": CLOSED_LIMIT})


@pytest.mark.parametrize("full", [True, False], ids=["poll", "quick tick"])
def test_shares_do_not_hang_on_how_far_a_backlog_was_counted(engine: Engine, relay: Relay, full: bool) -> None:
    change(engine, "INSERT INTO tenants (name, weight) VALUES ('heavy', 7)")
    for tenant in ("heavy", "light"):
        change(engine, MANY.replace("'default'", f"'{tenant}'"), queue=QUEUE, batch="", count=3000)
    for _ in range(7):
        relay.tick(full=full)  # until bundles are large
        relay.run_all()
    look = relay.tick(full=full)
    assert look.published == {("heavy", "", ""): 350, ("light", "", ""): 50}
    assert look.hungry


@pytest.mark.parametrize("elsewhere", [0, 2], ids=["nothing offered before", "some on offer in another relay's queue"])
def test_queues_together_publish_what_a_shared_limit_permits_once_and_the_first_is_served_first(
    engine: Engine, relay: Relay, elsewhere: int
) -> None:
    queues = ["priority-high", "a", "b", "c"]
    node(engine, perMinute=60)
    for queue in [*queues, "elsewhere"]:
        add(engine, *[NewJob("bulk", queue, tenant="acme", route="n1")] * 50)
    change(
        engine,
        "UPDATE jobs SET published_until = now() + interval '1 minute' "
        "WHERE id IN (SELECT id FROM jobs WHERE queue = 'elsewhere' LIMIT :n)",
        n=elsewhere,
    )
    published = {look.queue: sum(look.published.values()) for look in relay.tick_all(queues, threads=64)}
    relay.run_all()
    change(engine, "UPDATE jobs SET published_until = NULL")
    alone = sum(relay.tick_all(["priority-high"], threads=64)[0].published.values())
    assert alone >= 1
    assert sum(published.values()) <= max(0, alone - elsewhere)
    assert published["priority-high"] == sum(published.values())


def test_a_spent_limit_keeps_its_mail_out_and_lets_the_rest_pass(engine: Engine, relay: Relay) -> None:
    node(engine, perMinute=60)
    add(engine, *jobs(1000, tenant="limited", route="n1"))
    free = add(engine, *jobs(20, tenant="free"))
    relay.tick(threads=64)
    published = {job_id for bundle in relay.messages() for job_id in bundle}
    assert published >= set(free)
    assert len(published) <= len(free) + 4, "what a minute's limit permits within a moment"
    record = relay.record()
    assert record["throttled"] > 900
    assert list(record["throttled_by"]) == ["node n1 per_minute"]
    assert record["held"] <= 60


def test_a_full_pipe_is_looked_at_again_soon(engine: Engine, relay: Relay) -> None:
    add(engine, *jobs(100))
    relay.tick()
    look = relay.tick(full=False)
    assert look.slots == 0
    assert look.hungry


def test_an_idle_queue_is_in_no_hurry_and_says_so(relay: Relay) -> None:
    look = relay.tick()
    assert not look.hungry
    record = relay.record()
    assert (record["held"], record["throttled"], record["running"], record["scheduled"]) == (0, 0, 0, 0)


def test_a_row_is_committed_before_its_message_is_pushed(
    engine: Engine, relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(engine, *jobs(3))
    seen: list[int] = []
    push: Callable[..., None] = relay.pipe.push

    def noticed(*args: Any) -> None:
        seen.append(len(ask(engine, "SELECT FROM jobs WHERE published_until > postfleet_now()")))
        push(*args)

    monkeypatch.setattr(relay.pipe, "push", noticed)
    relay.tick()
    assert seen == [3]


def test_a_spent_site_is_held_by_name_and_delays_no_other_mail_of_its_node(engine: Engine, relay: Relay) -> None:
    sites: Any = [{"name": "gmail", "perHour": 30}]
    node(engine, sites=sites)
    add(engine, *jobs(200, route="n1/gmail"))
    add(engine, *jobs(100, route="n1"))
    look = relay.tick(threads=16)
    assert look.published == {("default", "", "n1/gmail"): 1, ("default", "", "n1"): 31}  # bundles of 1, as it is new
    assert relay.record()["throttled_by"] == {"node n1 at gmail per_hour": 199}
