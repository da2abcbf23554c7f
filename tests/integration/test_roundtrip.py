"""Jobs through a real relay and real workers."""

from __future__ import annotations

from sqlalchemy import Engine

from fleet import Fleet
from postfleet_workers.enqueue import enqueue, enqueue_many
from postfleet_workers.jobs import NewJob
from postfleet_workers.worker import pace


def test_every_job_runs_once(fleet: Fleet, engine: Engine, redis_client) -> None:
    fleet.relay()
    fleet.worker("priority-high,probe", threads=8)
    with engine.begin() as connection:
        ids = enqueue_many(connection, [NewJob("probe", "probe") for _ in range(500)])
    assert fleet.settled() == {"completed": 500}
    assert redis_client.hgetall("probe:runs") == {str(job_id): "1" for job_id in ids}


def test_a_failing_job_is_retried_then_discarded_with_every_error(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    fleet.worker("probe")
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe", "probe", {"do": "raise", "error": "boom"}))
    assert fleet.settled() == {"discarded": 1}
    rows = fleet.rows("SELECT attempt, outcome, error FROM job_attempts WHERE job_id = :id ORDER BY attempt", id=job_id)
    assert [tuple(row) for row in rows] == [(n, "transient", "RuntimeError: boom") for n in (1, 2, 3)]


def test_a_snooze_uses_no_attempt(fleet: Fleet, engine: Engine) -> None:
    fleet.relay()
    fleet.worker("probe")
    with engine.begin() as connection:
        enqueue(connection, NewJob("probe", "probe", {"do": "snooze", "seconds": 0.3}, max_attempts=1))
    assert fleet.settled() == {"completed": 1}
    assert fleet.rows("SELECT attempt, snoozes FROM jobs")[0] == (1, 1)


def test_what_is_snoozed_does_not_make_a_worker_look_fast(fleet: Fleet, engine: Engine, redis_client) -> None:
    fleet.relay()
    fleet.worker("probe", threads=1)
    later = [NewJob("probe", "probe", {"do": "snooze", "seconds": 3600}) for _ in range(40)]
    with engine.begin() as connection:
        enqueue_many(connection, later)
    fleet.until(lambda: fleet.states() == {"scheduled": 40}, "all put off")
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob("probe", "probe", {"do": "sleep", "seconds": 0.2}) for _ in range(3)])
    fleet.until(lambda: fleet.states() == {"scheduled": 40, "completed": 3}, "the others done")
    fleet.until(lambda: fleet.rows("SELECT 1 FROM workers WHERE completed >= 3 AND busy_seconds >= 0.6"), "a heartbeat")
    assert fleet.rows("SELECT completed FROM workers") == [(3,)]
    assert float(redis_client.hget(pace.KEY, "probe|")) >= 0.2


def test_an_outcome_that_cannot_be_written_keeps_no_other(fleet: Fleet, engine: Engine) -> None:
    # Two rounds first, so that the route is measured and a bundle holds several jobs.
    fleet.relay()
    fleet.worker("probe", threads=1)
    for _ in range(3):
        with engine.begin() as connection:
            enqueue_many(connection, [NewJob("probe.settled", "probe") for _ in range(30)])
        fleet.settled()
    with engine.begin() as connection:
        jobs = [NewJob("probe.settled", "probe", {"do": "unwritable"} if n == 7 else {}) for n in range(30)]
        enqueue_many(connection, jobs)
    fleet.until(lambda: fleet.states()["completed"] == 119, "all the others completed", seconds=10)
