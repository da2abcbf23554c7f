"""The relay's loop on a real PostgreSQL and a real Redis, tick by tick and in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
import redis
import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError
from structlog.typing import EventDict

from integration.ledger_steps import QUEUE, REGISTRY, add, ask, change
from postfleet_workers import clock, epoch
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.jobs import FIRST_QUEUE, NewJob
from postfleet_workers.journal import Journal
from postfleet_workers.relay import rows
from postfleet_workers.relay.loop import EXPIRE_LIMIT, PROMOTE_LIMIT, Relay, collided
from postfleet_workers.relay.publisher import Publisher
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.settings import Settings
from postfleet_workers.store.session import store_errors
from postfleet_workers.throttling.redis import RedisLimiter

POLL_SECONDS = 0.05
SETTINGS = Settings(
    database_url="postgresql://unused", redis_url="redis://unused", relay_poll_seconds=POLL_SECONDS, lease_seconds=3
)
PATIENCE_SECONDS = 10
DUE = """
INSERT INTO jobs (type, queue, state, run_at)
SELECT 'probe', :queue, 'retryable', now() - make_interval(secs => 60 + n) FROM generate_series(1, :count) n
"""
# Sequences keep counting when a transaction is rolled back: the first update of a job fails so, and no other.
COLLIDE_ONCE = """
CREATE SEQUENCE updates;
CREATE FUNCTION collide() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF nextval('updates') = 1 THEN RAISE EXCEPTION 'collision' USING ERRCODE = '{state}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER collide BEFORE UPDATE ON jobs FOR EACH ROW EXECUTE FUNCTION collide();
"""
OWNERS = """
SELECT pid FROM pg_locks JOIN pg_database d ON d.oid = database
WHERE locktype = 'advisory' AND granted AND datname = current_database()
"""


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


@pytest.fixture
def relay(engine: Engine, redis_client: redis.Redis, stop: threading.Event) -> Relay:
    pipe = Pipe(redis_client)
    return Relay(
        engine=engine,
        pipe=pipe,
        publisher=Publisher(pipe, RedisLimiter(redis_client), REGISTRY, SETTINGS),
        journal=Journal(redis_client),
        client=redis_client,
        registry=REGISTRY,
        settings=SETTINGS,
        stop=stop,
    )


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = clock.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert clock.monotonic() < deadline, what
        threading.Event().wait(0.02)


def tick(engine: Engine, relay: Relay) -> bool:
    with engine.connect() as connection:
        return relay.tick(connection)


def test_an_urgent_job_waits_behind_no_other_queues_backlog_of_retries(
    engine: Engine, relay: Relay, redis_client: redis.Redis
) -> None:
    change(engine, DUE, queue="retry", count=PROMOTE_LIMIT + 500)
    (urgent,) = add(engine, NewJob("probe", FIRST_QUEUE))
    change(engine, "UPDATE jobs SET state = 'scheduled' WHERE id = :id", id=urgent)
    assert tick(engine, relay), "more is due: the next tick follows at once"
    assert redis_client.llen(f"dramatiq:{FIRST_QUEUE}") == 1
    assert ask(engine, "SELECT count(*) FROM jobs WHERE queue = 'retry' AND state = 'available'") == [(PROMOTE_LIMIT,)]


def test_a_campaign_that_expires_is_cancelled_in_as_many_batches_as_it_takes(engine: Engine, relay: Relay) -> None:
    change(engine, DUE, queue=QUEUE, count=EXPIRE_LIMIT * 2 + 500)
    change(engine, "UPDATE jobs SET expires_at = now() - interval '1 second'")
    tick(engine, relay)
    assert ask(engine, "SELECT DISTINCT state FROM jobs") == [("cancelled",)]


def test_a_node_of_no_sense_is_said_once_for_each_change_and_stops_nothing(engine: Engine, relay: Relay) -> None:
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES ('n1', '{\"limits\": {\"perMinute\": 0}}')")
    add(engine)

    def said() -> list[EventDict]:
        with engine.connect() as connection, structlog.testing.capture_logs() as logs:
            for _ in range(3):
                threading.Event().wait(POLL_SECONDS)
                relay.tick(connection)
        return [entry for entry in logs if entry["event"] == "closed_because_invalid"]

    (first,) = said()
    assert first["what"] == "node n1"
    assert "per_minute" in first["error"]
    assert said() == []
    change(engine, "UPDATE sending_nodes SET spec = '{\"limits\": []}'")
    assert said() == []
    change(engine, "UPDATE sending_nodes SET spec = '[7]'")
    assert len(said()) == 1


def test_mail_follows_its_node_from_road_to_road_within_a_poll(
    engine: Engine, relay: Relay, redis_client: redis.Redis
) -> None:
    spec = '{"workers": {"placement": "%s", "poolRef": {"name": "email"}}}'
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES ('n.1', CAST(:s AS jsonb))", s=spec % "Shared")
    add(engine, *[NewJob("probe", QUEUE, route="n.1")] * 3, *[NewJob("probe", f"{QUEUE}.n")] * 2)

    def waiting(after: str = "") -> dict[str, int]:
        """Messages by road, once the relay knows of a change; it needs a poll to see it and a tick to follow."""
        with engine.begin() as connection:
            if after:
                connection.execute(text(after))
        with engine.connect() as connection:
            for _ in range(2):
                threading.Event().wait(POLL_SECONDS)
                relay.tick(connection)
        roads = (QUEUE, f"{QUEUE}.n.1", f"{QUEUE}.n")
        return {road: redis_client.llen(f"dramatiq:{road}") for road in roads}

    place = "UPDATE sending_nodes SET spec = jsonb_set(spec, '{workers,placement}', '\"%s\"')"
    assert waiting() == {QUEUE: 3, f"{QUEUE}.n.1": 0, f"{QUEUE}.n": 2}
    assert waiting(place % "Dedicated") == {QUEUE: 0, f"{QUEUE}.n.1": 3, f"{QUEUE}.n": 2}
    assert waiting(place % "Shared") == {QUEUE: 3, f"{QUEUE}.n.1": 0, f"{QUEUE}.n": 2}
    waiting(place % "Dedicated")
    assert waiting("DELETE FROM sending_nodes") == {QUEUE: 0, f"{QUEUE}.n.1": 0, f"{QUEUE}.n": 2}
    assert ask(engine, "SELECT count(*) FROM jobs WHERE state = 'available' AND attempt = 0") == [(5,)]


def test_a_relay_that_was_not_there_finds_what_lies_on_the_road_of_a_node_that_is_gone(
    engine: Engine, relay: Relay, redis_client: redis.Redis
) -> None:
    epoch.keep(redis_client, live_workers=False)
    add(engine, NewJob("probe", QUEUE, route="n1"))
    with engine.begin() as connection:
        ((job_id, publication),) = [
            (one.id, one.publication) for one in rows.publish(connection, QUEUE, ("default", "", "n1"), 1, 3600.0)
        ]
    Pipe(redis_client).push(f"{QUEUE}.n1", [("probe", [(job_id, publication)])], 0)
    tick(engine, relay)
    assert redis_client.exists(f"dramatiq:{QUEUE}.n1.msgs") == 0
    assert ask(engine, "SELECT published_until <= now() FROM jobs") == [(True,)]


@pytest.mark.parametrize("state", ["40P01", "40001"], ids=["deadlock", "serialization failure"])
def test_a_collision_costs_a_tick_and_neither_the_session_nor_its_locks(
    engine: Engine, relay: Relay, stop: threading.Event, state: str
) -> None:
    thread = threading.Thread(target=relay.run)
    add(engine, NewJob("probe", QUEUE, run_at=datetime.now(UTC) + timedelta(hours=1)))  # so that the queue is taken
    thread.start()
    try:
        eventually(lambda: len(ask(engine, OWNERS)) == 1, "the queue is taken")
        ((owner,),) = ask(engine, OWNERS)
        change(engine, COLLIDE_ONCE.format(state=state))
        (job_id,) = add(engine)
        eventually(
            lambda: bool(ask(engine, "SELECT FROM jobs WHERE id = :id AND publication = 1", id=job_id)), "published"
        )
        assert ask(engine, "SELECT last_value >= 2 FROM updates") == [(True,)], "it collided before"
        assert ask(engine, OWNERS) == [(owner,)]
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    ("cause", "expected"),
    [
        pytest.param(psycopg.errors.DeadlockDetected(), True, id="deadlock"),
        pytest.param(psycopg.errors.SerializationFailure(), True, id="serialization failure"),
        pytest.param(psycopg.errors.AdminShutdown(), False, id="the server goes down"),
        pytest.param(psycopg.OperationalError("gone"), False, id="the connection is gone"),
    ],
)
def test_a_collision_is_known_by_its_cause_however_it_is_wrapped(cause: psycopg.Error, expected: bool) -> None:
    error = DBAPIError("UPDATE jobs", {}, cause)
    assert collided(error) is expected
    with pytest.raises((StoreUnavailable, DBAPIError)) as caught, store_errors():
        raise error
    assert collided(caught.value) is expected


def test_a_relay_that_goes_round_lives_and_one_that_hangs_does_not(
    engine: Engine, relay: Relay, stop: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        eventually(relay.ready.is_set, "ready")
        assert relay.live()
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
    now = clock.monotonic()
    monkeypatch.setattr(clock, "monotonic", lambda: now + 25)
    assert relay.live()
    monkeypatch.setattr(clock, "monotonic", lambda: now + 35)
    assert not relay.live()


def test_an_outage_of_postgresql_is_not_the_relays_own_death(
    relay: Relay, stop: threading.Event, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    change(engine, "DROP TABLE workers")  # every tick fails from its first question on
    begun = clock.monotonic()
    relay._last_tick = begun - 100
    assert not relay.live()
    thread = threading.Thread(target=relay.run)
    thread.start()
    try:
        eventually(relay.live, "it tries again and again")
        assert not relay.ready.is_set()
    finally:
        stop.set()
        thread.join(PATIENCE_SECONDS)
