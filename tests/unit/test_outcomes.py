"""From an outcome to the row's next state, and what a journal's trace makes of a job that was left behind."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.jobs import (
    FIRST_QUEUE,
    Done,
    HandBack,
    Job,
    JobType,
    Outcome,
    Permanent,
    Run,
    Snooze,
    Trace,
    Transient,
)
from postfleet_workers.outcomes import (
    ENDED,
    ENDED_WELL,
    ERROR_LENGTH,
    MAX_STRIKES,
    Move,
    Rescued,
    last_word,
    move,
    printable,
    put_back,
    recover,
)
from postfleet_workers.states import FINAL, MOVES, State
from unit.making import make_job

BASE = 15.0


def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
    for _ in jobs:
        yield Done()


PLAIN = JobType("probe", "campaign-standard", perform)
MAIL = JobType("mail", "campaign-standard", perform, retry_queue="retry")

OUTCOMES: st.SearchStrategy[Outcome | Rescued] = st.one_of(
    st.just(Done()),
    st.builds(Transient, st.text()),
    st.builds(Permanent, st.text()),
    st.builds(Snooze, st.floats(-10, 1e6), st.text(), to_retry_queue=st.booleans()),
    st.builds(HandBack, st.text()),
    st.builds(Rescued, st.booleans(), st.text()),
)
JOBS = st.builds(
    lambda attempt, most, strikes, queue: make_job(attempt=attempt, max_attempts=most, strikes=strikes, queue=queue),
    st.integers(1, 10),
    st.integers(1, 10),
    st.integers(0, MAX_STRIKES - 1),
    st.sampled_from([FIRST_QUEUE, "campaign-standard", "retry"]),
)
TYPES = st.sampled_from([None, PLAIN, MAIL])


@pytest.mark.parametrize(
    ("outcome", "attempt", "expected"),
    [
        pytest.param(Done(), 1, Move(State.COMPLETED), id="done"),
        pytest.param(Done(), 3, Move(State.COMPLETED), id="done at the last attempt"),
        pytest.param(Permanent("no"), 1, Move(State.DISCARDED, error="no", failed=True), id="permanent, at once"),
        pytest.param(
            Transient("e"), 1, Move(State.RETRYABLE, 7.5, "retry", error="e", failed=True), id="first failure"
        ),
        pytest.param(
            Transient("e"), 2, Move(State.RETRYABLE, 15.0, "retry", error="e", failed=True), id="second failure"
        ),
        pytest.param(Transient("e"), 3, Move(State.DISCARDED, error="e", failed=True), id="third failure"),
        pytest.param(Transient("e"), 4, Move(State.DISCARDED, error="e", failed=True), id="attempts beyond the last"),
        pytest.param(
            Snooze(60, "later"),
            3,
            Move(State.SCHEDULED, 60, None, gives_attempt_back=True, snoozed=True, error="later"),
            id="snooze, in its own queue",
        ),
        pytest.param(
            Snooze(60, "421", to_retry_queue=True),
            3,
            Move(State.SCHEDULED, 60, "retry", gives_attempt_back=True, snoozed=True, error="421"),
            id="deferral, in the retry queue",
        ),
        pytest.param(
            Snooze(-5, "now"),
            1,
            Move(State.SCHEDULED, 0.0, None, gives_attempt_back=True, snoozed=True, error="now"),
            id="snooze into the past is now",
        ),
        pytest.param(HandBack("stop"), 3, Move(State.AVAILABLE, gives_attempt_back=True), id="hand-back"),
        pytest.param(
            Rescued(struck=False, reason="gone"),
            3,
            Move(State.AVAILABLE, gives_attempt_back=True),
            id="rescued before it began",
        ),
        pytest.param(
            Rescued(struck=True, reason="gone"),
            3,
            Move(State.AVAILABLE, gives_attempt_back=True, strikes=1, error="gone"),
            id="rescued after it began",
        ),
    ],
)
def test_each_outcome_moves_the_row(outcome: Outcome | Rescued, attempt: int, expected: Move) -> None:
    assert move(make_job(attempt=attempt), MAIL, outcome, BASE, jitter=0.0) == expected


@pytest.mark.parametrize(
    ("job_type", "queue", "expected"),
    [
        pytest.param(MAIL, "campaign-standard", "retry", id="bulk goes to the retry queue"),
        pytest.param(MAIL, "retry", "retry", id="a retry stays there"),
        pytest.param(MAIL, FIRST_QUEUE, None, id="urgent stays urgent"),
        pytest.param(PLAIN, "campaign-standard", None, id="a type without a retry queue stays"),
        pytest.param(None, "campaign-standard", None, id="an unknown type stays"),
    ],
)
@pytest.mark.parametrize("outcome", [Transient("e"), Snooze(1, "e", to_retry_queue=True)], ids=["failed", "deferred"])
def test_where_a_job_waits_to_be_tried_again(
    job_type: JobType | None, queue: str, outcome: Outcome, expected: str | None
) -> None:
    assert move(make_job(queue=queue), job_type, outcome, BASE, 0.0).queue == expected


@given(JOBS, TYPES, OUTCOMES, st.floats(0, 1, exclude_max=True))
def test_every_move_is_one_that_an_executing_job_may_make(
    job: Job, job_type: JobType | None, outcome: Outcome | Rescued, jitter: float
) -> None:
    assert move(job, job_type, outcome, BASE, jitter).state in MOVES[State.EXECUTING]


@given(JOBS, TYPES, OUTCOMES, st.floats(0, 1, exclude_max=True))
def test_only_a_transient_failure_uses_up_an_attempt_of_a_job_that_lives_on(
    job: Job, job_type: JobType | None, outcome: Outcome | Rescued, jitter: float
) -> None:
    after = move(job, job_type, outcome, BASE, jitter)
    if after.state not in FINAL:
        assert after.gives_attempt_back is not isinstance(outcome, Transient)


@given(JOBS, TYPES, OUTCOMES, st.floats(0, 1, exclude_max=True))
def test_a_move_says_when_to_try_again_only_where_it_must_wait(
    job: Job, job_type: JobType | None, outcome: Outcome | Rescued, jitter: float
) -> None:
    after = move(job, job_type, outcome, BASE, jitter)
    waits = after.state in {State.RETRYABLE, State.SCHEDULED}
    assert (after.delay_seconds is not None) is waits
    assert after.queue is None or waits
    assert after.delay_seconds is None or after.delay_seconds >= 0


@pytest.mark.parametrize(
    ("strikes", "struck", "state", "after"),
    [
        pytest.param(0, True, State.AVAILABLE, 1, id="first strike"),
        pytest.param(1, True, State.AVAILABLE, 2, id="second strike"),
        pytest.param(2, True, State.DISCARDED, 3, id="third strike: poison"),
        pytest.param(2, False, State.AVAILABLE, 2, id="not begun: no strike"),
    ],
)
def test_the_third_worker_that_dies_in_a_job_discards_it(strikes: int, struck: bool, state: State, after: int) -> None:
    moved = move(make_job(strikes=strikes), PLAIN, Rescued(struck, "its worker died"), BASE, 0.0)
    assert (moved.state, moved.strikes, moved.failed) == (state, after, state is State.DISCARDED)
    if moved.failed:
        assert moved.error == "poison: its worker died, for the 3rd time while this job ran"


@pytest.mark.parametrize("outcome", [Done(), Transient("e"), Snooze(1, "e")], ids=["done", "failed", "snoozed"])
def test_a_job_that_comes_to_an_outcome_is_cleared_of_suspicion(outcome: Outcome) -> None:
    assert move(make_job(strikes=2), PLAIN, outcome, BASE, 0.0).strikes == 0


def test_a_job_that_is_handed_back_stays_under_suspicion() -> None:
    assert move(make_job(strikes=2), PLAIN, HandBack("stop"), BASE, 0.0).strikes == 2


@pytest.mark.parametrize(
    ("error", "kept"),
    [
        pytest.param("plain", "plain", id="plain"),
        pytest.param("a\x00b", "a\ufffdb", id="NUL, which text columns refuse"),
        pytest.param("a\udcffb", "a\ufffdb", id="lone surrogate, which jsonb refuses"),
        pytest.param("😀é", "😀é", id="what looks odd but is text"),
    ],
)
def test_an_error_is_kept_as_postgresql_can_keep_it(error: str, kept: str) -> None:
    assert printable(error) == kept


@given(st.text(st.characters() | st.characters(categories=["Cs"]) | st.just("\x00"), max_size=3000))
def test_any_error_can_be_kept(error: str) -> None:
    kept = printable(error)
    assert len(kept) <= ERROR_LENGTH
    assert "\x00" not in kept
    assert json.loads(json.dumps(kept)).encode("utf-8").decode() == kept


@pytest.mark.parametrize(
    "outcome", [Transient("\x00"), Permanent("\x00"), Snooze(1, "\x00")], ids=["transient", "permanent", "snooze"]
)
@pytest.mark.parametrize("attempt", [1, 3])
def test_no_outcome_carries_a_nul_byte_to_the_row(outcome: Outcome, attempt: int) -> None:
    assert move(make_job(attempt=attempt), MAIL, outcome, BASE, 0.0).error == "\ufffd"


def reads_replies(job: Job, trace: Trace) -> Outcome | None:
    return Permanent(trace.detail) if trace.phase == "reply" else None


OWN = JobType("mail", "campaign-standard", perform, recover=reads_replies)


@pytest.mark.parametrize(
    ("job_type", "trace", "expected"),
    [
        pytest.param(PLAIN, Trace(), Rescued(struck=False, reason="gone"), id="never begun"),
        pytest.param(PLAIN, Trace(complete=False), Rescued(struck=False, reason="gone"), id="nothing known"),
        pytest.param(PLAIN, Trace("begun"), Rescued(struck=True, reason="gone"), id="begun: a strike"),
        pytest.param(PLAIN, Trace("reply", ENDED_WELL), Done(), id="ended well, not yet written"),
        pytest.param(PLAIN, Trace("reply", ENDED), Rescued(struck=False, reason="gone"), id="ended otherwise: again"),
        pytest.param(None, Trace("begun"), Rescued(struck=True, reason="gone"), id="unknown type, begun"),
        pytest.param(None, Trace("reply", ENDED_WELL), Done(), id="unknown type, ended well"),
        pytest.param(OWN, Trace("reply", "550"), Permanent("550"), id="its type reads the reply"),
        pytest.param(OWN, Trace("reply", ENDED_WELL), Permanent(ENDED_WELL), id="a type's replies are its own"),
        pytest.param(OWN, Trace("begun"), Rescued(struck=True, reason="gone"), id="its type knows nothing"),
    ],
)
def test_what_became_of_a_job_that_was_left_behind(
    job_type: JobType | None, trace: Trace, expected: Outcome | Rescued
) -> None:
    assert recover(make_job(), job_type, trace, "gone") == expected


def settle(connection: object, settled: object) -> None:
    pass


@pytest.mark.parametrize(
    ("job_type", "outcome", "word"),
    [
        pytest.param(PLAIN, Done(), ENDED_WELL, id="done"),
        pytest.param(PLAIN, Transient("e"), ENDED, id="failed"),
        pytest.param(
            JobType("probe", "q", perform, settle=settle), Done(), ENDED, id="done, but its record is not written yet"
        ),
        pytest.param(OWN, Done(), None, id="a type that notes its own replies"),
    ],
)
def test_what_the_journal_notes_when_a_job_ends(job_type: JobType, outcome: Outcome, word: str | None) -> None:
    assert last_word(job_type, outcome) == word


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Done(), False),
        (Transient("not this time"), False),
        (Permanent("never"), False),
        (Snooze(5, "later"), True),
        (Snooze(300, "450 greylisted", worked=True), False),
        (HandBack("stopping"), True),
    ],
)
def test_a_job_was_put_back_when_nothing_came_of_it(outcome: Outcome, expected: bool) -> None:
    assert put_back(outcome) is expected
