from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Permanent, Settled, Snooze, Trace, Transient
from postfleet_workers.mail.errors import (
    ConnectionLost,
    LoginMissing,
    LoginRefused,
    SetupFault,
    SmtpFault,
    TlsFailed,
    Unreachable,
)
from postfleet_workers.mail.replies.outcome import (
    History,
    MailRecord,
    Schedule,
    Status,
    Target,
    failed,
    outcome_of_fault,
    outcome_of_reply,
    outcome_of_trace,
)
from postfleet_workers.mail.replies.reply import NO_ANSWER, Phase, Reply, parse, to_detail
from postfleet_workers.mail.settlement import status_after
from postfleet_workers.states import State

N1, NEW, SCHEDULE = Target("n1"), History(), Schedule()
OLD = History(deferrals=9, age_seconds=432_000)


def status(outcome: Outcome | None) -> Status:
    assert outcome is not None
    assert not isinstance(outcome, HandBack)
    record = outcome.record
    assert isinstance(record, MailRecord)
    return record.status


@pytest.mark.parametrize(
    ("code", "text", "kind", "expected"),
    [
        (250, "2.0.0 ok", Done, Status.SENT),
        (451, "4.3.0 later", Snooze, Status.DEFERRED),
        (550, "5.1.1 no such user", Done, Status.BOUNCED),
        (550, "5.7.515 not authenticated", Snooze, Status.DEFERRED),
        (-1, "gibberish", Done, Status.UNKNOWN),
    ],
)
def test_an_answer_to_the_dot_becomes_an_outcome(code: int, text: str, kind: type, expected: Status) -> None:
    outcome = outcome_of_reply(parse(code, text), Phase.DOT, N1, NEW, SCHEDULE)
    assert type(outcome) is kind
    assert status(outcome) is expected


@pytest.mark.parametrize("phase", [Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.BODY, Phase.DOT])
def test_a_mail_that_the_server_put_off_was_work(phase: Phase) -> None:
    outcome = outcome_of_reply(parse(451, "4.7.1 later"), phase, N1, NEW, SCHEDULE)
    assert isinstance(outcome, Snooze)
    assert (outcome.kind, outcome.worked) == ("deferred", True)


@pytest.mark.parametrize(
    "fault",
    [
        Unreachable(Phase.CONNECT, "refused"),
        Unreachable(Phase.BANNER, "refused at banner: 421 busy", Reply(421, "", "busy")),
        Unreachable(Phase.AUTH, "cannot log in now: 454", Reply(454, "4.7.0", "later")),
        ConnectionLost(Phase.BODY, "timed out"),
        LoginRefused(Phase.AUTH, "x", Reply(535, "5.7.8", "no")),
        TlsFailed(Phase.STARTTLS, "x"),
        LoginMissing(Phase.AUTH, "no login"),
    ],
    ids=lambda fault: f"{type(fault).__name__} {fault.phase}",
)
def test_a_mail_over_which_no_server_decided_was_none(fault: SmtpFault) -> None:
    outcome = outcome_of_fault(fault, N1, NEW, SCHEDULE)
    assert isinstance(outcome, Snooze)
    assert not outcome.worked


@pytest.mark.parametrize("phase", [p for p in Phase if p is not Phase.DOT])
def test_a_connection_lost_before_the_dot_is_tried_again(phase: Phase) -> None:
    outcome = outcome_of_fault(ConnectionLost(phase, "closed"), N1, NEW, SCHEDULE)
    assert isinstance(outcome, Snooze)
    assert (outcome.seconds, outcome.to_retry_queue, status(outcome)) == (300, True, Status.DEFERRED)


def test_a_connection_lost_after_the_dot_is_unknown() -> None:
    outcome = outcome_of_fault(ConnectionLost(Phase.DOT, "closed"), N1, OLD, SCHEDULE)
    assert isinstance(outcome, Done)
    assert status(outcome) is Status.UNKNOWN


def test_a_login_that_is_not_there_yet_is_waited_for_without_an_attempt() -> None:
    outcome = outcome_of_fault(LoginMissing(Phase.AUTH, "node n1: no login"), N1, OLD, SCHEDULE)
    assert outcome == Snooze(5.0, "node n1: no login", kind="login_missing")


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        pytest.param(TlsFailed(Phase.STARTTLS, "x"), "tls_failed", id="tls"),
        pytest.param(LoginRefused(Phase.AUTH, "x", Reply(535, "5.7.8", "no")), "login_refused", id="login"),
    ],
)
def test_our_own_faults_are_waited_for_without_an_attempt_or_a_deferral(fault: SetupFault, kind: str) -> None:
    """However old the mail is: the schedule is for what the receiver puts off."""
    waits = []
    for times in range(1, 6):
        fault.times = times
        outcome = outcome_of_fault(fault, N1, OLD, SCHEDULE)
        assert isinstance(outcome, Snooze)
        assert (outcome.kind, outcome.reason, outcome.to_retry_queue) == (kind, f"{fault.phase}: x", False)
        assert status(outcome) is Status.FAILED
        assert outcome.record.scope == "source"
        waits.append(outcome.seconds)
    assert waits == [5, 10, 20, 30, 30]


def test_what_a_node_was_not_asked_is_no_try_of_the_mail() -> None:
    fault = LoginRefused(Phase.AUTH, "x")
    fault.remembered = True
    outcome = outcome_of_fault(fault, N1, NEW, SCHEDULE)
    assert outcome == Snooze(5.0, "auth: x", kind="login_refused")


def test_what_is_deferred_for_too_long_bounces_with_the_last_words() -> None:
    outcome = outcome_of_fault(Unreachable(Phase.CONNECT, "refused"), N1, OLD, SCHEDULE)
    assert isinstance(outcome, Done)
    assert status(outcome) is Status.BOUNCED
    assert outcome.record.text == "given up after 9 deferrals: refused"


@pytest.mark.parametrize("line", ["550 5.7.606 banned sending IP", "421 4.7.28 an unusual rate"])
@pytest.mark.parametrize("phase", [Phase.BANNER, Phase.RCPT, Phase.DOT])
def test_what_is_refused_for_our_sake_for_too_long_fails_and_is_no_bounce(line: str, phase: Phase) -> None:
    answer = parse(int(line[:3]), line[4:])
    fault = Unreachable(phase, f"refused: {answer}", answer)
    for outcome in (
        outcome_of_reply(answer, phase, N1, OLD, SCHEDULE),
        outcome_of_fault(fault, N1, OLD, SCHEDULE),
    ):
        assert isinstance(outcome, Permanent)
        assert status(outcome) is Status.FAILED
        assert outcome.record.scope == "source"
        assert outcome.record.text == outcome.error
        assert outcome.error.startswith("given up after 9 deferrals: ")


@pytest.mark.parametrize(
    ("trace", "expected"),
    [
        pytest.param(Trace("reply", to_detail(Phase.DOT, Reply(250, "2.0.0", "ok"))), Status.SENT, id="accepted"),
        pytest.param(
            Trace("reply", to_detail(Phase.DOT, Reply(250, "", "ok")), complete=False), Status.SENT, id="flushed"
        ),
        pytest.param(Trace("reply", to_detail(Phase.RCPT, Reply(550, "5.1.1", "no"))), Status.BOUNCED, id="refused"),
        pytest.param(Trace("reply", to_detail(Phase.DOT, Reply(451, "", "no"))), Status.DEFERRED, id="deferred"),
        pytest.param(Trace("dot"), Status.UNKNOWN, id="no-reply"),
        pytest.param(Trace("dot", complete=False), Status.UNKNOWN, id="no-reply-and-flushed"),
        pytest.param(Trace("begun", complete=False), Status.UNKNOWN, id="begun-and-flushed"),
        pytest.param(Trace("", complete=False), Status.UNKNOWN, id="nothing-known-and-flushed"),
    ],
)
def test_a_journal_tells_what_became_of_a_mail(trace: Trace, expected: Status) -> None:
    assert status(outcome_of_trace(trace, N1, NEW, SCHEDULE)) is expected


@pytest.mark.parametrize(
    "trace", [Trace(), Trace("begun"), Trace("reply", NO_ANSWER)], ids=lambda t: t.phase or "nothing"
)
def test_what_never_went_out_is_sent_again(trace: Trace) -> None:
    assert outcome_of_trace(trace, N1, NEW, SCHEDULE) is None


@given(st.sampled_from(["", "begun", "dot", "reply"]), st.text(max_size=30), st.booleans())
def test_a_dot_is_never_followed_by_a_second_one(phase: str, detail: str, complete: bool) -> None:
    """Whatever the journal holds, a mail whose dot may have gone out is put back only on the server's own word."""
    outcome = outcome_of_trace(Trace(phase, detail, complete), N1, NEW, SCHEDULE)
    if phase == "dot" or not complete:
        assert isinstance(outcome, Done) or detail == NO_ANSWER
    if isinstance(outcome, Snooze):
        assert phase == "reply"


# What the job's state makes of the email.

JOB = Job(
    1, "email.send", "q", "t", "n1", {}, 1, 3, 0, 1, datetime(2026, 1, 1, tzinfo=UTC), None,
    datetime(2026, 1, 1, tzinfo=UTC), "c", "e",
)  # fmt: skip
SENT = Done(MailRecord("n1", "dot", Status.SENT, "250 ok"))
DEFER = Snooze(300, "later", MailRecord("n1", "rcpt", Status.DEFERRED, "450 later"), to_retry_queue=True)
OURS = Transient("535", MailRecord("n1", "auth", Status.FAILED, "535"))


@pytest.mark.parametrize(
    ("state", "outcome", "expected"),
    [
        (State.COMPLETED, SENT, Status.SENT),
        (State.COMPLETED, Done(), None),
        (State.SCHEDULED, DEFER, Status.DEFERRED),
        (State.SCHEDULED, Snooze(5, "Redis is away"), None),
        (State.SCHEDULED, Snooze(5, "535", OURS.record), None),
        (State.RETRYABLE, OURS, Status.DEFERRED),
        (State.RETRYABLE, Transient("raised"), Status.DEFERRED),
        (State.DISCARDED, OURS, Status.FAILED),
        (State.DISCARDED, Permanent("poison"), Status.FAILED),
        (State.CANCELLED, DEFER, Status.CANCELLED),
        (State.CANCELLED, HandBack("stopping"), Status.CANCELLED),
        (State.AVAILABLE, HandBack("stopping"), None),
    ],
)
def test_the_jobs_state_decides_the_emails(state: State, outcome: Outcome, expected: Status | None) -> None:
    settled = Settled(JOB, outcome, accepted=True, state=state, started_at=None, worker="w")
    assert status_after(settled) is expected
    assert status_after(replace(settled, accepted=False)) is None


def test_a_mail_that_cannot_be_made_fails_for_good() -> None:
    assert status(failed("n1", Phase.CONNECT, "no")) is Status.FAILED
