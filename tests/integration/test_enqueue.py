"""Enqueueing on a real PostgreSQL: in the caller's transaction, in order, once per unique key."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from sqlalchemy import Engine, text
from sqlalchemy.orm import Session

from integration.ledger_steps import ask, change, job_row, states
from postfleet_workers.enqueue import CHANNEL, enqueue, enqueue_many
from postfleet_workers.jobs import NewJob

HOUR = timedelta(hours=1)


class RefusedError(Exception):
    pass


def test_a_job_is_written_as_given(engine: Engine) -> None:
    expires_at = datetime.now(UTC) + HOUR
    with engine.begin() as connection:
        job_id = enqueue(
            connection,
            NewJob(
                type="probe",
                queue="bulk",
                args={"to": "a@b.example", "n": [1, None, "é"]},
                tenant="acme",
                batch="campaign:7",
                route="n1",
                priority=-3,
                unique_key="key",
                expires_at=expires_at,
                max_attempts=5,
            ),
        )
    assert job_id is not None
    row = job_row(engine, job_id)
    assert (row.type, row.queue, row.tenant, row.batch, row.route) == ("probe", "bulk", "acme", "campaign:7", "n1")
    assert (row.priority, row.unique_key, row.max_attempts, row.expires_at) == (-3, "key", 5, expires_at)
    assert row.args == {"to": "a@b.example", "n": [1, None, "é"]}
    assert (row.state, row.attempt, row.publication, row.published_until) == ("available", 0, 0, None)


def test_a_job_exists_only_if_its_callers_transaction_commits(engine: Engine) -> None:
    def half_done() -> None:
        with engine.begin() as connection:
            enqueue_many(connection, [NewJob("probe", "bulk")] * 3)
            raise RefusedError

    with pytest.raises(RefusedError):
        half_done()
    assert states(engine) == {}


def test_a_job_joins_an_orm_session_too(engine: Engine) -> None:
    with Session(engine) as session:
        enqueue(session, NewJob("probe", "bulk"))
        session.rollback()
        job_id = enqueue(session, NewJob("probe", "bulk"))
        session.commit()
    assert states(engine) == {job_id: "available"}


def test_a_taken_unique_key_adds_nothing(engine: Engine) -> None:
    with engine.begin() as connection:
        first = enqueue(connection, NewJob("probe", "bulk", unique_key="k"))
        assert enqueue(connection, NewJob("probe", "bulk", unique_key="k")) is None
        assert enqueue(connection, NewJob("other", "bulk", unique_key="k")) is not None, "keys are per type"
    assert first in states(engine)
    assert len(states(engine)) == 2


@pytest.mark.parametrize(
    ("state", "free"),
    [
        pytest.param("scheduled", False, id="scheduled"),
        pytest.param("executing", False, id="executing"),
        pytest.param("completed", False, id="completed: it was done"),
        pytest.param("discarded", True, id="discarded: it was not"),
        pytest.param("cancelled", True, id="cancelled: it was not"),
    ],
)
def test_when_a_unique_key_is_free_again(engine: Engine, state: str, free: bool) -> None:
    job = NewJob("probe", "bulk", unique_key="k")
    with engine.begin() as connection:
        enqueue(connection, job)
    change(engine, "UPDATE jobs SET state = :state", state=state)
    with engine.begin() as connection:
        assert (enqueue(connection, job) is not None) is free


def test_many_jobs_get_ids_in_the_order_given_and_none_where_a_key_was_taken(engine: Engine) -> None:
    keys = ["a", "b", None, "a", None, "taken", "c"]
    with engine.begin() as connection:
        enqueue(connection, NewJob("probe", "bulk", unique_key="taken"))
        ids = enqueue_many(connection, [NewJob("probe", "bulk", {"n": n}, unique_key=k) for n, k in enumerate(keys)])
    assert [job_id is None for job_id in ids] == [False, False, False, True, False, True, False]
    found = [job_id for job_id in ids if job_id is not None]
    assert found == sorted(found)
    assert {row.id: row.args["n"] for row in ask(engine, "SELECT id, args FROM jobs WHERE args <> '{}'")} == {
        job_id: n for n, job_id in enumerate(ids) if job_id is not None
    }


def test_no_jobs_are_no_work(engine: Engine) -> None:
    with engine.begin() as connection:
        assert enqueue_many(connection, []) == []


@pytest.mark.parametrize(
    ("run_at", "state"),
    [
        pytest.param(None, "available", id="now"),
        pytest.param(-HOUR, "available", id="an hour ago"),
        pytest.param(HOUR, "scheduled", id="in an hour"),
    ],
)
def test_a_job_for_later_is_scheduled(engine: Engine, run_at: timedelta | None, state: str) -> None:
    when = datetime.now(UTC) + run_at if run_at else None
    with engine.begin() as connection:
        job_id = enqueue(connection, NewJob("probe", "bulk", run_at=when))
    assert job_id is not None
    assert job_row(engine, job_id).state == state
    if when:
        assert job_row(engine, job_id).run_at == when


def test_the_relay_is_woken_at_the_commit_once_for_each_queue(engine: Engine, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute(f"LISTEN {CHANNEL}")
        with engine.begin() as connection:
            enqueue_many(connection, [NewJob("probe", queue) for queue in ("bulk", "urgent", "bulk")])
            assert list(listener.notifies(timeout=0)) == [], "not before the commit"
        heard = [note.payload for note in listener.notifies(timeout=10, stop_after=2)]
    assert sorted(heard) == ["bulk", "urgent"]


def test_two_callers_at_once_cannot_both_have_a_key(engine: Engine) -> None:
    job = NewJob("probe", "bulk", unique_key="k")
    with engine.connect() as one, engine.connect() as other:
        assert enqueue(one, job) is not None
        other.execute(text("SET lock_timeout = '100ms'"))
        with pytest.raises(Exception, match="lock timeout"):
            enqueue(other, job)
        other.rollback()
        one.commit()
        assert enqueue(other, job) is None
