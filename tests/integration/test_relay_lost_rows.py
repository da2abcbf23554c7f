"""Rows that are past waiting: executing without a worker, running too long, or expired. On a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from integration.ledger_steps import QUEUE, add, ask, change, claim, move_clock, offer, start_worker, states
from postfleet_workers import leases
from postfleet_workers.jobs import NewJob
from postfleet_workers.relay import rows


def now() -> datetime:
    return datetime.now(UTC)


def abandoned(engine: Engine, queue: str = QUEUE, timeouts: str = "{}") -> list[tuple[int, bool]]:
    with engine.begin() as connection:
        return [(one.job.id, one.dead) for one in rows.abandoned(connection, [queue], timeouts, 1800.0)]


def test_jobs_of_a_live_worker_are_left_alone(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    claim(engine, offer(engine))
    assert abandoned(engine) == []


def test_jobs_of_a_worker_that_is_gone_are_found(engine: Engine) -> None:
    ids = add(engine, *[NewJob("probe", QUEUE)] * 4)
    for name in ("stopped", "deleted", "lapsed", "alive"):
        start_worker(engine, name, seconds=3600.0)
        claim(engine, offer(engine, most=1), name)
    with engine.begin() as connection:
        leases.stop(connection, "stopped")
    change(engine, "DELETE FROM workers WHERE id = 'deleted'")
    change(engine, "UPDATE workers SET lease_until = postfleet_now() WHERE id = 'lapsed'")
    assert sorted(abandoned(engine)) == [(job_id, True) for job_id in ids[:3]]
    assert abandoned(engine, "other") == []


@pytest.mark.parametrize(
    ("timeouts", "ahead", "found"),
    [
        pytest.param("{}", "29 minutes", False, id="within half an hour"),
        pytest.param("{}", "31 minutes", True, id="after half an hour"),
        pytest.param('{"probe": 7200}', "31 minutes", False, id="its type allows two hours"),
        pytest.param('{"probe": 0.5}', "1 second", True, id="its type allows half a second"),
        pytest.param('{"other": 1}', "29 minutes", False, id="another type's limit"),
    ],
)
def test_a_job_past_its_types_limit_is_found_though_its_worker_lives(
    engine: Engine, timeouts: str, ahead: str, found: bool
) -> None:
    (job_id,) = add(engine)
    start_worker(engine, seconds=36_000.0)
    claim(engine, offer(engine))
    move_clock(engine, ahead)
    assert abandoned(engine, timeouts=timeouts) == ([(job_id, False)] if found else [])


def test_what_one_relay_rescues_another_passes_over(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    claim(engine, offer(engine))
    change(engine, "DELETE FROM workers")
    with engine.begin() as connection:
        assert len(rows.abandoned(connection, [QUEUE], "{}", 1800.0)) == 1
        assert abandoned(engine) == []


def test_an_abandoned_job_comes_with_all_that_a_rescue_needs(engine: Engine) -> None:
    add(engine, NewJob("probe", QUEUE, {"a": 1}, "acme", "campaign:7", "n1"))
    start_worker(engine)
    (claimed,) = claim(engine, offer(engine, ("acme", "campaign:7", "n1")))
    change(engine, "DELETE FROM workers")
    with engine.begin() as connection:
        (found,) = rows.abandoned(connection, [QUEUE], "{}", 1800.0)
    assert (found.job, found.worker, found.dead) == (claimed, "w", True)


def test_what_may_not_run_any_more_is_cancelled(engine: Engine) -> None:
    def expiring(queue: str = QUEUE, minutes: int = 5, run_at: datetime | None = None) -> NewJob:
        return NewJob("probe", queue, run_at=run_at, expires_at=now() + timedelta(minutes=minutes))

    available, scheduled, executing, later, elsewhere = add(
        engine,
        expiring(),
        expiring(run_at=now() + timedelta(hours=1)),
        expiring(),
        expiring(minutes=600),
        expiring("other"),
    )
    change(engine, "UPDATE jobs SET state = 'executing' WHERE id = :id", id=executing)
    move_clock(engine, "10 minutes")
    with engine.begin() as connection:
        assert sorted(one.id for one in rows.expire(connection, [QUEUE], 500)) == [available, scheduled]
    assert states(engine) == {
        available: "cancelled", scheduled: "cancelled", executing: "executing", later: "available",
        elsewhere: "available",
    }  # fmt: skip
    (row,) = ask(engine, "SELECT last_error, finished_at FROM jobs WHERE id = :id", id=available)
    assert row.last_error == "expired before it could run"
    assert row.finished_at is not None
