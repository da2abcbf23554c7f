"""Claims and outcomes on a real PostgreSQL: every write is a compare-and-set."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from integration.ledger_steps import (
    QUEUE,
    REGISTRY,
    TYPE,
    add,
    ask,
    change,
    claim,
    job_row,
    move_clock,
    offer,
    settle,
    start_worker,
    states,
)
from postfleet_workers import ledger
from postfleet_workers.enqueue import enqueue
from postfleet_workers.jobs import (
    Done,
    HandBack,
    JobType,
    NewJob,
    Outcome,
    Permanent,
    Registry,
    Settled,
    Snooze,
    Transient,
)
from postfleet_workers.outcomes import Rescued

Sabotage = Callable[[Engine, int], None]


def sabotage(sql: str) -> Sabotage:
    return lambda engine, job_id: change(engine, sql, id=job_id)


def test_a_claim_takes_the_bundle_in_its_order_and_counts_the_attempt(engine: Engine) -> None:
    add(engine, *[NewJob("probe", QUEUE, {"n": n}) for n in range(3)])
    start_worker(engine)
    items = list(reversed(offer(engine)))
    jobs = claim(engine, items)
    assert [(job.id, job.publication) for job in jobs] == items
    assert [job.args["n"] for job in jobs] == [2, 1, 0]
    row = job_row(engine, jobs[0].id)
    assert (row.state, row.attempt, row.claimed_by, row.claim, row.claim_epoch) == (
        "executing", 1, "w", jobs[0].claim, "e"
    )  # fmt: skip
    assert row.published_until is None


def test_a_message_is_good_for_one_claim(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    items = offer(engine)
    assert len(claim(engine, items)) == 1
    assert claim(engine, items) == []


@pytest.mark.parametrize(
    "prevent",
    [
        pytest.param(sabotage("UPDATE jobs SET publication = publication + 1 WHERE id = :id"), id="published again"),
        pytest.param(sabotage("UPDATE jobs SET state = 'cancelled' WHERE id = :id"), id="cancelled"),
        pytest.param(sabotage("UPDATE jobs SET state = 'completed' WHERE id = :id"), id="completed"),
        pytest.param(sabotage("UPDATE jobs SET expires_at = postfleet_now() WHERE id = :id"), id="expired"),
        pytest.param(sabotage("INSERT INTO holds SELECT 'queue', queue FROM jobs WHERE id = :id"), id="queue on hold"),
        pytest.param(sabotage("INSERT INTO holds SELECT 'batch', batch FROM jobs WHERE id = :id"), id="batch on hold"),
        pytest.param(sabotage("UPDATE workers SET lease_until = postfleet_now() WHERE :id > 0"), id="lease lapsed"),
        pytest.param(sabotage("UPDATE workers SET stopped_at = postfleet_now() WHERE :id > 0"), id="worker stopped"),
        pytest.param(sabotage("DELETE FROM workers WHERE :id > 0"), id="worker unknown"),
        pytest.param(sabotage("DELETE FROM jobs WHERE id = :id"), id="deleted"),
    ],
)
def test_nothing_is_claimed_that_may_not_run(engine: Engine, prevent: Sabotage) -> None:
    (job_id,) = add(engine, NewJob("probe", QUEUE, batch="campaign:7"))
    start_worker(engine)
    items = offer(engine, ("default", "campaign:7", ""))
    prevent(engine, job_id)
    assert claim(engine, items) == []
    assert "executing" not in states(engine).values()


def test_the_rest_of_a_bundle_is_claimed_without_what_may_not_run(engine: Engine) -> None:
    first, second, third = add(engine, *[NewJob("probe", QUEUE)] * 3)
    start_worker(engine)
    items = offer(engine)
    change(engine, "UPDATE jobs SET state = 'cancelled' WHERE id = :id", id=second)
    assert [job.id for job in claim(engine, items)] == [first, third]


def test_holds_of_other_things_hold_nothing(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    change(engine, "INSERT INTO holds VALUES ('queue', 'other'), ('batch', 'campaign:7'), ('batch', :q)", q=QUEUE)
    assert len(claim(engine, offer(engine))) == 1


def test_two_workers_with_the_same_message_share_nothing(engine: Engine) -> None:
    ids = add(engine, *[NewJob("probe", QUEUE)] * 20)
    start_worker(engine, "one")
    start_worker(engine, "two")
    items = offer(engine)
    mine, theirs = claim(engine, items[:12], "one"), claim(engine, items[8:], "two")
    assert sorted(job.id for job in [*mine, *theirs]) == ids


def test_what_was_not_begun_may_be_published_again_at_once_and_the_old_message_is_stale(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    items = offer(engine)
    assert offer(engine) == [], "on offer to one message only"
    with engine.begin() as connection:
        ledger.unpublish(connection, items)
    assert claim(engine, items) == []
    again = offer(engine)
    assert [job_id for job_id, _ in again] == [job_id for job_id, _ in items]
    assert again[0][1] > items[0][1]
    assert claim(engine, items) == []
    assert len(claim(engine, again)) == 1


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        pytest.param(Done(), {"state": "completed", "attempt": 1}, id="done"),
        pytest.param(Permanent("no"), {"state": "discarded", "attempt": 1, "last_error": "no"}, id="permanent"),
        pytest.param(
            Transient("e"), {"state": "retryable", "attempt": 1, "queue": "retry", "last_error": "e"}, id="transient"
        ),
        pytest.param(
            Snooze(60, "later"),
            {"state": "scheduled", "attempt": 0, "snoozes": 1, "queue": QUEUE, "last_error": "later"},
            id="snooze",
        ),
        pytest.param(
            Snooze(60, "421", to_retry_queue=True),
            {"state": "scheduled", "attempt": 0, "queue": "retry"},
            id="deferral",
        ),
        pytest.param(HandBack("stop"), {"state": "available", "attempt": 0, "queue": QUEUE}, id="hand-back"),
        pytest.param(
            Rescued(struck=True, reason="died"), {"state": "available", "attempt": 0, "strikes": 1}, id="rescue"
        ),
    ],
)
def test_an_outcome_becomes_the_rows_next_state(
    engine: Engine, outcome: Outcome | Rescued, expected: dict[str, Any]
) -> None:
    (job_id,) = add(engine)
    start_worker(engine)
    (settled,) = settle(engine, claim(engine, offer(engine)), outcome)
    row = job_row(engine, job_id)
    assert {name: getattr(row, name) for name in expected} == expected
    assert (settled.accepted, settled.state, settled.worker) == (True, expected["state"], "w")
    assert (row.claimed_by, row.claim, row.claim_epoch, row.claimed_at, row.published_until) == (None,) * 5
    assert (row.finished_at is not None) is (row.state in {"completed", "discarded"})


@pytest.mark.parametrize(
    ("outcome", "seconds"),
    [pytest.param(Transient("e"), 7.5, id="backoff"), pytest.param(Snooze(90, "later"), 90, id="snooze")],
)
def test_the_next_try_is_reckoned_on_the_databases_clock(engine: Engine, outcome: Outcome, seconds: float) -> None:
    move_clock(engine, "3 days")
    (job_id,) = add(engine)
    start_worker(engine)
    settle(engine, claim(engine, offer(engine)), outcome)
    row = job_row(engine, job_id)
    assert row.wait == pytest.approx(seconds, abs=5)
    assert row.run_at > datetime.now(UTC) + timedelta(days=2)


def test_a_hand_back_makes_its_message_stale(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    items = offer(engine)
    settle(engine, claim(engine, items), HandBack("stop"))
    assert claim(engine, items) == []
    again = offer(engine)
    assert claim(engine, items) == []
    (job,) = claim(engine, again)
    assert job.attempt == 1, "the attempt was given back"


def test_an_outcome_after_a_rescue_changes_nothing_and_is_kept(engine: Engine) -> None:
    (job_id,) = add(engine)
    start_worker(engine, "slow")
    late = claim(engine, offer(engine), "slow")
    settle(engine, late, Rescued(struck=True, reason="its worker died"), worker="slow")
    before = job_row(engine, job_id)
    (settled,) = settle(engine, late, Done(), worker="slow")
    assert (settled.accepted, settled.state) == (False, "")
    assert (job_row(engine, job_id).state, job_row(engine, job_id).strikes) == (before.state, before.strikes)
    (attempt,) = ask(engine, "SELECT worker, outcome, fenced, publication, error FROM job_attempts")
    assert tuple(attempt) == ("slow", "done", True, late[0].publication, None)


def test_an_outcome_is_fenced_by_its_claim_even_when_the_job_executes_again(engine: Engine) -> None:
    (job_id,) = add(engine)
    start_worker(engine, "slow")
    start_worker(engine, "next")
    late = claim(engine, offer(engine), "slow")
    settle(engine, late, Rescued(struck=False, reason="its worker died"))
    (current,) = claim(engine, offer(engine), "next")
    assert not settle(engine, late, Permanent("late"), worker="slow")[0].accepted
    row = job_row(engine, job_id)
    assert (row.state, row.claimed_by, row.claim) == ("executing", "next", current.claim)
    assert settle(engine, [current], Done(), worker="next")[0].accepted


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        pytest.param(Done(), "completed", id="it ended well all the same"),
        pytest.param(Transient("e"), "cancelled", id="a retry"),
        pytest.param(Snooze(60, "later"), "cancelled", id="a snooze"),
        pytest.param(HandBack("stop"), "cancelled", id="a hand-back"),
        pytest.param(Rescued(struck=False, reason="died"), "cancelled", id="a rescue"),
        pytest.param(Permanent("no"), "discarded", id="it failed for good"),
    ],
)
def test_a_running_job_that_is_to_be_cancelled_is_not_run_again(
    engine: Engine, outcome: Outcome | Rescued, state: str
) -> None:
    (job_id,) = add(engine)
    start_worker(engine)
    jobs = claim(engine, offer(engine))
    change(engine, "UPDATE jobs SET cancel_requested = true")
    seen: list[Settled] = []
    registry = Registry([JobType("probe", QUEUE, TYPE.perform, settle=lambda _, settled: seen.extend(settled))])
    settle(engine, jobs, outcome, registry)
    row = job_row(engine, job_id)
    assert (row.state, row.cancel_requested, row.finished_at is not None) == (state, False, True)
    assert [one.state for one in seen] == [state], "its type is told, so that its own rows agree"


@pytest.mark.parametrize(
    ("outcome", "kept"),
    [
        pytest.param(Done(), None, id="a success writes no attempt"),
        pytest.param(Snooze(1, "later"), None, id="nor does a snooze"),
        pytest.param(HandBack("stop"), None, id="nor a hand-back"),
        pytest.param(Rescued(struck=True, reason="died"), None, id="nor a rescue that puts it back"),
        pytest.param(Transient("e1"), (1, "transient", "e1", False), id="a failure does"),
        pytest.param(Permanent("e2"), (1, "permanent", "e2", False), id="and so does the last"),
    ],
)
def test_which_attempts_are_kept(
    engine: Engine, outcome: Outcome | Rescued, kept: tuple[int, str, str, bool] | None
) -> None:
    add(engine)
    start_worker(engine)
    settle(engine, claim(engine, offer(engine)), outcome)
    found = [tuple(row) for row in ask(engine, "SELECT attempt, outcome, error, fenced FROM job_attempts")]
    assert found == ([kept] if kept else [])


def test_a_poison_job_is_kept_with_its_reason(engine: Engine) -> None:
    (job_id,) = add(engine)
    change(engine, "UPDATE jobs SET strikes = 2, publication = 1, published_until = postfleet_now() + interval '9 s'")
    start_worker(engine)
    settle(engine, claim(engine, [(job_id, 1)]), Rescued(struck=True, reason="its worker died"))
    assert (job_row(engine, job_id).state, job_row(engine, job_id).strikes) == ("discarded", 3)
    (attempt,) = ask(engine, "SELECT outcome, error FROM job_attempts")
    assert attempt.outcome == "rescued"
    assert attempt.error.startswith("poison")


@pytest.mark.parametrize("error", ["a\x00b", "a\udcffb", "x" * 100_000, "'; DROP TABLE jobs; --"])
def test_no_error_text_can_keep_an_outcome_from_being_written(engine: Engine, error: str) -> None:
    add(engine)
    start_worker(engine)
    (settled,) = settle(engine, claim(engine, offer(engine)), Transient(error))
    assert settled.accepted


def test_each_type_settles_its_own_in_the_same_transaction(engine: Engine) -> None:
    calls: list[tuple[str, list[int]]] = []

    def hook(name: str) -> Callable[[Any, Sequence[Settled]], None]:
        def settle(connection: Any, settled: Sequence[Settled]) -> None:
            calls.append((name, [one.job.id for one in settled]))
            enqueue(connection, NewJob(f"after.{name}", QUEUE))

        return settle

    types = [JobType(name, QUEUE, TYPE.perform, settle=hook(name)) for name in ("a", "b", "idle")]
    first, second, third = add(engine, NewJob("a", QUEUE), NewJob("b", QUEUE), NewJob("a", QUEUE))
    start_worker(engine)
    settle(engine, claim(engine, offer(engine)), Done(), Registry(types))
    assert calls == [("a", [first, third]), ("b", [second])]
    assert len(ask(engine, "SELECT FROM jobs WHERE type LIKE 'after.%'")) == 2


def test_a_rescue_that_puts_a_job_back_is_no_outcome_for_its_type(engine: Engine) -> None:
    seen: list[Settled] = []
    registry = Registry([JobType("probe", QUEUE, TYPE.perform, settle=lambda _, settled: seen.extend(settled))])
    add(engine)
    start_worker(engine)
    settle(engine, claim(engine, offer(engine)), Rescued(struck=True, reason="died"), registry)
    assert seen == []


def test_an_outcome_of_a_job_that_was_deleted_is_no_error(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    jobs = claim(engine, offer(engine))
    change(engine, "DELETE FROM jobs")
    assert not settle(engine, jobs, Transient("e"), REGISTRY)[0].accepted
