"""Faults inside a worker process: what must not end its lease, its fetching or its good end."""

from __future__ import annotations

import re
import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from sqlalchemy import Connection, Engine, text

from fleet import Fleet
from postfleet_local.stack import Postgres, Valkey
from postfleet_workers import app as apps
from postfleet_workers import epoch, ledger
from postfleet_workers.enqueue import enqueue, enqueue_many
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.jobs import Done, Job, JobType, NewJob, Outcome, Run, Trace, each
from postfleet_workers.settings import Settings
from postfleet_workers.worker.process import Shape, assemble
from postfleet_workers.worker.runner import Runner

pytestmark = pytest.mark.faults


def test_a_read_only_database_is_waited_out(fleet: Fleet, engine: Engine, database_url: str) -> None:
    """What a failover looks like to clients of the demoted primary."""
    fleet.relay()
    worker = fleet.worker("probe", threads=2)
    name = database_url.rpartition("/")[2]
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[call-overload]
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                      " AND datname = current_database()")  # fmt: skip
        fleet.until(lambda: worker.log.read_text().count("lease_not_renewed") >= 2, "renewals refused")
        admin.execute("SET default_transaction_read_only = off")
        admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = off")  # type: ignore[call-overload]
    engine.dispose()
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob("probe", "probe") for _ in range(5)])
    assert fleet.settled() == {"completed": 5}
    assert worker.popen.poll() is None


def test_a_worker_that_stops_returns_what_it_fetched_before_its_last_job_ends(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    fleet.relay()
    stopping = fleet.worker("priority-high,probe", threads=2, shutdown_timeout=120)
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe.single", "probe", {"do": "wait"}))
    fleet.until(lambda: redis_client.hget("probe:runs", str(job_id)), "the long job begun")
    stopping.popen.terminate()
    fleet.until(lambda: '"stopping"' in stopping.log.read_text(), "it knows")
    fleet.worker("priority-high,probe", threads=2)
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob("probe.single", "priority-high") for _ in range(6)])
    fleet.until(lambda: fleet.states().get("completed") == 6, "the others done elsewhere", seconds=10)
    assert stopping.popen.poll() is None, "while the long job still runs"
    redis_client.rpush(f"probe:release:{job_id}", "go")
    assert stopping.popen.wait(20) == 0
    assert fleet.states() == {"completed": 7}


def test_a_shutdown_without_redis_still_writes_outcomes_and_says_goodbye(
    fleet: Fleet, engine: Engine, tmp_path: Path
) -> None:
    own = Valkey(tmp_path / "own")
    own.start()
    fleet.env["POSTFLEET_REDIS_URL"] = own.url()
    fleet.relay()
    worker = fleet.worker("probe", threads=2, shutdown_timeout=3)
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob("probe.single", "probe", {"do": "sleep", "seconds": 1}) for _ in range(8)])
    with closing(redis.Redis.from_url(own.url())) as client:
        fleet.until(lambda: client.hlen("probe:runs") == 2, "two at work")
    own.kill()
    worker.popen.terminate()
    worker.popen.wait(30)
    states = fleet.states()
    assert "executing" not in states
    assert states["completed"] >= 2
    assert fleet.rows("SELECT count(*) AS n FROM workers WHERE stopped_at IS NULL")[0].n == 0


def test_a_batch_that_was_on_hold_when_it_was_claimed_runs_at_once_when_it_is_resumed(
    fleet: Fleet, engine: Engine
) -> None:
    fleet.env["POSTFLEET_PUBLICATION_SECONDS"] = "600"
    fleet.relay()
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob("probe", "probe", batch="b") for _ in range(5)])
    fleet.until(lambda: fleet.rows("SELECT 1 FROM jobs WHERE published_until IS NOT NULL"), "on offer")
    fleet.execute("INSERT INTO holds (kind, key) VALUES ('batch', 'b')")
    fleet.worker("probe", threads=2)
    fleet.until(lambda: not fleet.rows("SELECT 1 FROM jobs WHERE published_until IS NOT NULL"), "offers taken back")
    assert fleet.states() == {"available": 5}
    fleet.execute("DELETE FROM holds")
    assert fleet.settled(seconds=10) == {"completed": 5}


def test_a_job_type_that_no_worker_knows_waits_and_says_why(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    fleet.worker("probe", threads=2)
    with engine.begin() as connection:
        enqueue(connection, NewJob("from.tomorrow", "probe"))
        enqueue(connection, NewJob("probe", "probe"))
    fleet.until(lambda: fleet.states() == {"scheduled": 1, "completed": 1}, "put off")
    (row,) = fleet.rows("SELECT attempt, publication, last_error FROM jobs WHERE type = 'from.tomorrow'")
    assert (row.attempt, row.publication) == (0, 1)
    assert row.last_error == "no worker here knows job type from.tomorrow"


@pytest.mark.parametrize(
    ("variable", "value", "code", "message"),
    [
        ("POSTFLEET_DATABASE_URL", "postgresql://postgres@127.0.0.1:1/none", 1, r"PostgreSQL.*POSTFLEET_DATABASE_URL"),
        ("POSTFLEET_REDIS_URL", "redis://127.0.0.1:1/0", 1, r"Redis.*POSTFLEET_REDIS_URL"),
        ("POSTFLEET_JOB_MODULES", "no.such.module", 2, r"POSTFLEET_JOB_MODULES: cannot import"),
        ("POSTFLEET_REDIS_URL", "", 2, r"POSTFLEET_REDIS_URL is not set"),
        ("POSTFLEET_REDIS_URL", "http://127.0.0.1", 2, r"POSTFLEET_REDIS_URL: .*give redis://"),
        ("POSTFLEET_DATABASE_URL", "mysql://127.0.0.1/x", 2, r"POSTFLEET_DATABASE_URL: .*not PostgreSQL"),
    ],
)
def test_a_worker_that_cannot_start_says_why_in_one_line(
    fleet: Fleet, variable: str, value: str, code: int, message: str
) -> None:
    env = {variable: value, "POSTFLEET_START_WAIT_SECONDS": "0.2"}
    worker = fleet.start("worker", "--queues=probe", env=env, wait=False)
    assert worker.popen.wait(20) == code
    said = [line for line in worker.log.read_text().splitlines() if line.startswith("postfleet: ")]
    assert len(said) == 1
    assert re.search(message, said[0])
    assert "Traceback" not in worker.log.read_text()


class Harness:
    """A runner in this process, with a job type of the test's."""

    def __init__(self, app: apps.App, engine: Engine) -> None:
        self.app = app
        self.engine = engine
        _, self.runner, self.lease = assemble(app, Shape(("q",), threads=1, shutdown_timeout_seconds=1))
        epoch.keep(app.client, False)
        self.lease.start()

    def offer(self, count: int) -> list[tuple[int, int]]:
        with self.engine.begin() as connection:
            ids = enqueue_many(connection, [NewJob("t", "q") for _ in range(count)])
            connection.execute(
                text("UPDATE jobs SET publication = 1, published_until = postfleet_now() + interval '1 min'")
            )
        return [(job_id or 0, 1) for job_id in ids]

    def states(self) -> dict[int, str]:
        return {row.id: row.state for row in self.rows("SELECT id, state FROM jobs ORDER BY id")}

    def rows(self, statement: str) -> Sequence[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(statement)).all()


@pytest.fixture
def harness(
    monkeypatch: pytest.MonkeyPatch, database_url: str, redis_url: str, redis_client: redis.Redis, engine: Engine
) -> Iterator[Harness]:
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", database_url)
    monkeypatch.setenv("POSTFLEET_REDIS_URL", redis_url)
    app = apps.build(Settings())
    harness = Harness(app, engine)
    yield harness
    harness.lease.stop()
    app.close()


def unknown_after_the_dot(job: Job, trace: Trace) -> Any:
    return Done("unknown") if trace.phase == "dot" or not trace.complete else None


def test_a_claim_whose_commit_was_not_answered_goes_on_with_what_it_has(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    harness.app.registry.add(JobType("t", "q", each(lambda job, run: Done())))
    items = harness.offer(3)
    claim = ledger.claim
    lost = iter([True])

    def claim_and_lose_the_answer(connection: Connection, *args: Any, **kwargs: Any) -> list[Job]:
        jobs = claim(connection, *args, **kwargs)
        if next(lost, False):
            connection.commit()
            raise StoreUnavailable("the answer to COMMIT was lost")
        return jobs

    monkeypatch.setattr(ledger, "claim", claim_and_lose_the_answer)
    harness.runner.run("t", items)
    assert set(harness.states().values()) == {"completed"}
    with harness.engine.connect() as connection:
        assert set(connection.execute(text("SELECT attempt FROM jobs")).scalars()) == {1}


def test_a_job_that_raises_after_its_dot_is_not_tried_again(harness: Harness) -> None:
    def perform(job: Job, run: Run) -> Any:
        assert run.dot(job)
        raise RuntimeError("after the dot")

    harness.app.registry.add(JobType("t", "q", each(perform), recover=unknown_after_the_dot))
    harness.runner.run("t", harness.offer(1))
    assert set(harness.states().values()) == {"completed"}


def test_giving_up_after_a_flush_hands_back_what_was_never_begun(harness: Harness) -> None:
    runner: Runner = harness.runner

    def perform(job: Job, run: Run) -> Any:
        assert run.dot(job)
        harness.app.client.flushall()
        epoch.keep(harness.app.client, True)
        runner.give_up()
        return Done()

    harness.app.registry.add(JobType("t", "q", each(perform), bundle_size=5, recover=unknown_after_the_dot))
    items = harness.offer(5)
    runner.run("t", items)
    assert list(harness.states().values()) == ["completed", "available", "available", "available", "available"]


def test_sigterm_twice_ends_at_once(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    worker = fleet.worker("probe", threads=1)
    with engine.begin() as connection:
        enqueue(connection, NewJob("probe.single", "probe", {"do": "wait"}))
    fleet.until(lambda: fleet.states() == {"executing": 1}, "begun")
    worker.signal(signal.SIGTERM)
    fleet.until(lambda: '"stopping"' in worker.log.read_text(), "it knows")
    worker.signal(signal.SIGTERM)
    assert worker.popen.wait(10) == 1


@pytest.mark.parametrize("command", [["worker", "--queues=probe"], ["relay"]], ids=["worker", "relay"])
def test_without_the_schema_a_process_says_what_to_do(fleet: Fleet, postgres: Postgres, command: list[str]) -> None:
    process = fleet.start(*command, env={"POSTFLEET_DATABASE_URL": postgres.url()}, wait=False)
    assert process.popen.wait(20) == 1
    said = [line for line in process.log.read_text().splitlines() if line.startswith("postfleet: ")]
    assert said == ["postfleet: the database has no Postfleet tables yet; run `postfleet migrate` first"]


def test_jobs_begin_in_lots_and_one_that_was_running_when_its_worker_died_alone(harness: Harness) -> None:
    lots: list[list[int]] = []

    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        left = len(jobs)
        while left:
            lot = run.begun()
            lots.append([job.id for job in lot])
            left -= len(lot)
            for _ in lot:
                yield Done()

    harness.app.registry.add(JobType("t", "q", perform, bundle_size=10, at_once=3))
    items = harness.offer(8)
    ids = [job_id for job_id, _ in items]
    with harness.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET strikes = 1 WHERE id = :id"), {"id": ids[4]})
    harness.runner.run("t", items)
    assert lots == [ids[:3], [ids[3]], [ids[4]], ids[5:]]
    assert set(harness.states().values()) == {"completed"}


def test_of_a_lot_that_breaks_off_each_job_has_the_outcome_that_it_got_to(harness: Harness) -> None:
    """The first is done, the second raises, the third's dot is out, the fourth has only begun."""

    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        lot = run.begun()
        if len(lot) == 4:
            yield Done()
            assert run.dot(lot[2])
            raise RuntimeError("a mistake")
        for _ in jobs:
            yield Done()

    harness.app.registry.add(JobType("t", "q", perform, bundle_size=5, at_once=4, recover=unknown_after_the_dot))
    harness.runner.run("t", harness.offer(5))
    assert list(harness.states().values()) == ["completed", "retryable", "completed", "available", "completed"]
    (raised,) = harness.rows("SELECT attempt, last_error FROM jobs WHERE state = 'retryable'")
    assert (raised.attempt, raised.last_error) == (1, "RuntimeError: a mistake")


def test_what_a_job_takes_of_a_thread_and_how_long_it_holds_its_place_are_told_apart(harness: Harness) -> None:
    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        for job in jobs:
            run.took(job, 60.0)
            yield Done()

    harness.app.registry.add(JobType("t", "q", perform, bundle_size=5, at_once=5))
    harness.runner.run("t", harness.offer(5))
    client = harness.app.client
    assert float(client.hget("postfleet:pace:held", "t|") or 0) == 60.0
    assert 0 < float(client.hget("postfleet:pace", "t|") or 0) < 60.0
