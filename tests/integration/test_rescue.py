"""What becomes of jobs whose worker is gone: the claim is revoked, the journal read, the rows written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.ledger_steps import QUEUE, TYPE, add, ask, change, claim, job_row, offer, settle, start_worker, states
from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.jobs import Done, Job, JobType, NewJob, Registry, Settled
from postfleet_workers.journal import MemoryJournal, Traces
from postfleet_workers.outcomes import ENDED, ENDED_WELL
from postfleet_workers.relay.rescue import expire, rescue

REGISTRY = Registry([TYPE])


@pytest.fixture
def epoch() -> MemoryEpoch:
    return MemoryEpoch(lambda: 1_000_000.0)


@pytest.fixture
def journal(epoch: MemoryEpoch) -> MemoryJournal:
    return MemoryJournal(epoch)


@pytest.fixture
def claimed(engine: Engine, journal: MemoryJournal, epoch: MemoryEpoch) -> Callable[..., list[Job]]:
    """Claim jobs as a worker that is gone afterwards."""

    def claimed(count: int = 1, *, worker: str = "w", kind: str = "probe") -> list[Job]:
        add(engine, *[NewJob(kind, QUEUE)] * count)
        start_worker(engine, worker)
        jobs = claim(engine, offer(engine), worker)
        change(engine, "UPDATE jobs SET claim_epoch = :e WHERE claimed_by = :w", e=epoch.current(), w=worker)
        change(engine, "DELETE FROM workers WHERE id = :w", w=worker)
        assert journal.open(jobs[0].claim, worker, str(epoch.current()))
        return jobs

    return claimed


def run(engine: Engine, journal: Any, registry: Registry = REGISTRY) -> list[Settled]:
    with engine.begin() as connection:
        return rescue(connection, journal, registry, [QUEUE], 15.0)


def test_each_job_of_a_lost_claim_goes_where_its_trace_says(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    done, failed, running, unbegun = claimed(4)
    journal.advance(done.claim, {}, {done.id: 1.0})
    journal.advance(done.claim, {done.id: ENDED_WELL}, {failed.id: 2.0})
    journal.advance(done.claim, {failed.id: ENDED}, {running.id: 3.0})
    run(engine, journal)
    assert states(engine) == {
        done.id: "completed", failed.id: "available", running.id: "available", unbegun.id: "available"
    }  # fmt: skip
    rows = {job.id: job_row(engine, job.id) for job in (failed, running, unbegun)}
    assert {row.attempt for row in rows.values()} == {0}, "every attempt is given back"
    assert [rows[job.id].strikes for job in (failed, running, unbegun)] == [0, 1, 0]
    assert rows[running.id].last_error == "its worker died"


def test_the_claim_is_revoked_before_anything_is_written(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    (job,) = claimed()
    run(engine, journal)
    assert not journal.dot(job.claim, job.id), "its worker, should it still live, may not send"
    assert not settle(engine, [job], Done())[0].accepted


def test_a_journal_out_of_reach_changes_nothing(engine: Engine, claimed: Callable[..., list[Job]]) -> None:
    class Away:
        def revoke(self, claim: str, epoch: str) -> Traces:
            raise PipeUnavailable("Redis: away")

    (job,) = claimed()
    with pytest.raises(PipeUnavailable):
        run(engine, Away())
    assert states(engine) == {job.id: "executing"}


def test_a_claim_that_cannot_be_written_does_not_keep_the_others(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    def broken(connection: Any, settled: Sequence[Settled]) -> None:
        raise KeyError("a bug in a type's settle")

    stuck = claimed(1, worker="a", kind="broken")[0]
    fine = claimed(1, worker="b")[0]
    journal.advance(stuck.claim, {stuck.id: ENDED_WELL}, {})
    settled = run(engine, journal, Registry([TYPE, JobType("broken", QUEUE, TYPE.perform, settle=broken)]))
    assert [one.job.id for one in settled] == [fine.id]
    assert states(engine) == {stuck.id: "executing", fine.id: "available"}
    assert not journal.dot(stuck.claim, stuck.id)


def test_a_rescue_that_failed_once_is_done_the_next_time_with_the_same_traces(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    (job,) = claimed()
    journal.advance(job.claim, {job.id: ENDED_WELL}, {})
    journal.revoke(job.claim, job.claim_epoch)  # by a relay that died before it wrote
    run(engine, journal)
    assert states(engine) == {job.id: "completed"}


def test_the_third_strike_is_the_last(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    (job,) = claimed()
    change(engine, "UPDATE jobs SET strikes = 2")
    journal.advance(job.claim, {}, {job.id: 1.0})
    run(engine, journal)
    row = job_row(engine, job.id)
    assert (row.state, row.strikes) == ("discarded", 3)
    assert [attempt.outcome for attempt in ask(engine, "SELECT outcome FROM job_attempts")] == ["rescued"]


def test_a_type_that_is_not_known_here_is_rescued_too(
    engine: Engine, journal: MemoryJournal, claimed: Callable[..., list[Job]]
) -> None:
    (job,) = claimed(kind="unheard.of")
    run(engine, journal)
    assert states(engine) == {job.id: "available"}


def test_nothing_lost_is_nothing_done(engine: Engine, journal: MemoryJournal) -> None:
    add(engine)
    assert run(engine, journal) == []


def test_a_type_is_told_of_what_expired(engine: Engine) -> None:
    told: list[tuple[int, str]] = []

    def note(_: Any, settled: Sequence[Settled]) -> None:
        told.extend((one.job.id, one.state) for one in settled)

    past = datetime.now(UTC) - timedelta(minutes=1)
    gone, other = add(engine, NewJob("probe", QUEUE, expires_at=past), NewJob("other", QUEUE, expires_at=past))
    with engine.begin() as connection:
        registry = Registry([JobType("probe", QUEUE, TYPE.perform, settle=note)])
        assert expire(connection, registry, [QUEUE], 500) == 2
    assert told == [(gone, "cancelled")]
    assert states(engine) == {gone: "cancelled", other: "cancelled"}
