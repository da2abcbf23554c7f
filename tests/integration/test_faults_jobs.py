"""Faults of the road that every job takes: killed and frozen workers, killed relays, a Redis and a PostgreSQL gone."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator

import pytest
import redis
from sqlalchemy import Engine

from fleet import Fleet
from postfleet_local.stack import Postgres, Valkey
from postfleet_workers.enqueue import enqueue, enqueue_many
from postfleet_workers.jobs import NewJob
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for

pytestmark = pytest.mark.faults


def add(engine: Engine, count: int, **args: object) -> list[int]:
    with engine.begin() as connection:
        ids = enqueue_many(connection, [NewJob("probe", "probe", args) for _ in range(count)])
    return [job_id for job_id in ids if job_id is not None]


def runs(client: redis.Redis) -> dict[str, int]:
    return {key: int(value) for key, value in client.hgetall("probe:runs").items()}


def test_a_killed_worker_loses_nothing_and_the_attempt_is_given_back(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    fleet.relay()
    victim = fleet.worker("probe", threads=4)
    add(engine, 300, do="sleep", seconds=0.05)
    fleet.until(lambda: len(runs(redis_client)) > 20, "20 jobs begun")
    victim.kill()
    fleet.worker("probe", threads=8)
    assert fleet.settled() == {"completed": 300}
    twice = [job_id for job_id, count in runs(redis_client).items() if count > 1]
    assert len(twice) <= 4, "only what a thread had in hand may run again"
    assert {row.attempt for row in fleet.rows("SELECT attempt FROM jobs")} == {1}
    assert fleet.rows("SELECT max(strikes) AS s FROM jobs")[0].s <= 1


def test_a_frozen_workers_outcome_is_fenced_out(fleet: Fleet, engine: Engine, redis_client: redis.Redis) -> None:
    fleet.relay()
    frozen = fleet.worker("probe", threads=1)
    (job_id,) = add(engine, 1, do="wait")
    fleet.until(lambda: runs(redis_client).get(str(job_id)) == 1, "job begun")
    frozen.signal(signal.SIGSTOP)
    fleet.until(lambda: fleet.states() == {"available": 1}, "rescued")
    fleet.worker("probe", threads=1)
    fleet.until(lambda: runs(redis_client).get(str(job_id)) == 2, "begun by another worker")
    redis_client.rpush(f"probe:release:{job_id}", "go", "go")
    assert fleet.settled() == {"completed": 1}
    frozen.signal(signal.SIGCONT)
    fleet.until(lambda: fleet.rows("SELECT 1 FROM job_attempts WHERE fenced"), "fenced outcome kept as an attempt")
    assert fleet.states() == {"completed": 1}


def test_one_poison_job_among_two_thousand_is_the_only_one_discarded(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    add(engine, 1000)
    with engine.begin() as connection:
        poison = enqueue(connection, NewJob("probe", "probe", {"do": "kill"}))
    add(engine, 1000)

    def tend() -> bool:
        alive = [p for p in fleet.processes[1:] if p.popen.poll() is None]
        if not alive:
            fleet.worker("probe", threads=4)
        return not set(fleet.states()) - {"completed", "discarded"}

    fleet.until(tend, "all jobs final", seconds=90)
    assert fleet.states() == {"completed": 2000, "discarded": 1}
    (row,) = fleet.rows("SELECT id, strikes, last_error FROM jobs WHERE state = 'discarded'")
    assert (row.id, row.strikes) == (poison, 3)
    assert "poison" in row.last_error


def test_a_job_past_its_types_limit_is_requeued(fleet: Fleet, engine: Engine, redis_client: redis.Redis) -> None:
    fleet.relay(env={"POSTFLEET_BUNDLE_TARGET_SECONDS": "0.2"})
    fleet.worker("probe", threads=2)
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe.brief", "probe", {"do": "wait"}))
    fleet.until(lambda: runs(redis_client).get(str(job_id)) == 2, "run a second time beside the stuck first")
    redis_client.rpush(f"probe:release:{job_id}", "go", "go")
    assert fleet.settled() == {"completed": 1}


def test_sigterm_finishes_the_job_in_hand_and_hands_the_rest_back(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    fleet.relay()
    worker = fleet.worker("probe", threads=2)
    add(engine, 60, do="sleep", seconds=0.3)
    fleet.until(lambda: len(runs(redis_client)) >= 6, "bundles of several under way")
    assert worker.stop() == 0
    begun = len(runs(redis_client))
    states = fleet.states()
    assert states == {"completed": begun, "available": 60 - begun}, "nothing is left executing"
    assert {row.attempt for row in fleet.rows("SELECT attempt FROM jobs WHERE state = 'available'")} == {0}
    assert fleet.rows("SELECT count(*) AS n FROM workers WHERE stopped_at IS NULL")[0].n == 0
    fleet.worker("probe", threads=8)
    assert fleet.settled() == {"completed": 60}
    assert set(runs(redis_client).values()) == {1}


def test_a_flush_costs_seconds_not_jobs(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    fleet.worker("probe", threads=4)
    add(engine, 400, do="sleep", seconds=0.02)
    fleet.until(lambda: fleet.states().get("completed", 0) > 40, "under way")
    client = redis.Redis.from_url(fleet.env["POSTFLEET_REDIS_URL"])
    client.flushall()
    client.close()
    assert fleet.settled(seconds=20) == {"completed": 400}
    assert {row.attempt for row in fleet.rows("SELECT attempt FROM jobs")} == {1}


def test_redis_killed_and_restarted_from_its_append_only_file(fleet: Fleet, engine: Engine, own_valkey: Valkey) -> None:
    fleet.env["POSTFLEET_REDIS_URL"] = own_valkey.url()
    fleet.relay()
    fleet.worker("probe", threads=4)
    add(engine, 400, do="sleep", seconds=0.02)
    fleet.until(lambda: fleet.states().get("completed", 0) > 40, "under way")
    own_valkey.kill()
    own_valkey.start()
    assert fleet.settled() == {"completed": 400}


def test_a_relay_killed_between_commit_and_push_delays_but_loses_nothing(fleet: Fleet, engine: Engine) -> None:
    add(engine, 50)
    # What such a death leaves behind: rows on offer, no message.
    fleet.execute("UPDATE jobs SET publication = 1, published_until = postfleet_now() + interval '2 seconds'")
    fleet.relay()
    fleet.worker("probe")
    assert fleet.settled() == {"completed": 50}
    assert {row.publication for row in fleet.rows("SELECT publication FROM jobs")} == {2}, "offered twice"


def test_relays_killed_under_load_and_with_no_worker(fleet: Fleet, engine: Engine, redis_client: redis.Redis) -> None:
    first, second = fleet.relay(), fleet.relay()
    add(engine, 300, do="sleep", seconds=0.01)
    fleet.until(lambda: redis_client.hlen("dramatiq:probe.msgs") > 0, "something published")
    first.kill()
    second.kill()
    fleet.relay()
    fleet.worker("probe", threads=4)
    assert fleet.settled() == {"completed": 300}


def test_a_standby_relay_takes_over(fleet: Fleet, engine: Engine) -> None:
    active = fleet.relay()
    fleet.worker("probe")
    add(engine, 5)
    assert fleet.settled() == {"completed": 5}
    fleet.relay()
    active.kill()
    add(engine, 5)
    assert fleet.settled() == {"completed": 10}


@pytest.fixture
def on_own_postgres(fleet: Fleet, own_postgres: Postgres) -> Iterator[Callable[[], Engine]]:
    engine = engine_for(own_postgres.url())
    upgrade(engine)
    fleet.engine = engine
    fleet.env["POSTFLEET_DATABASE_URL"] = own_postgres.url()
    yield lambda: engine
    engine.dispose()


@pytest.mark.parametrize("leases", [0, 2], ids=["restarted", "away for two leases"])
def test_postgresql_away_under_full_prefetch(
    fleet: Fleet, own_postgres: Postgres, on_own_postgres: Callable[[], Engine], redis_client: redis.Redis, leases: int
) -> None:
    engine = on_own_postgres()
    fleet.relay()
    worker = fleet.worker("probe", threads=4)
    add(engine, 300, do="sleep", seconds=0.05)
    fleet.until(lambda: len(runs(redis_client)) > 20, "under way")
    own_postgres.kill()
    engine.dispose()
    if leases:
        log = worker.log
        fleet.until(
            lambda: log.read_text().count("lease_not_renewed") > leases * 6, "no renewal for two leases", seconds=60
        )
    own_postgres.start()
    assert fleet.settled(seconds=60) == {"completed": 300}
    assert max(runs(redis_client).values()) <= 2
    assert worker.popen.poll() is None


def test_a_worker_holds_at_most_four_connections(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    fleet.worker("probe", threads=64)
    add(engine, 3000)
    most = 0
    while set(fleet.states()) - {"completed"}:
        (row,) = fleet.rows(
            "SELECT count(*) AS n FROM pg_stat_activity WHERE application_name LIKE 'postfleet%worker-%'"
            " AND datname = current_database()"
        )
        most = max(most, row.n)
    assert 0 < most <= 4
