"""What becomes of an email and its job, from what the server said or did not say. Pure.

A `MailRecord` travels with the job's outcome to the transaction that settles both.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum

from postfleet_workers import backoff
from postfleet_workers.jobs import Done, Outcome, Permanent, Snooze, Trace
from postfleet_workers.mail.errors import (
    AddressMissing,
    ConnectionLost,
    DkimMissing,
    LoginMissing,
    LoginRefused,
    NowhereToGo,
    SetupFault,
    SmtpFault,
    TlsFailed,
)
from postfleet_workers.mail.replies.classify import (
    Bounced,
    Deferred,
    Reading,
    Sent,
    Unknown,
    Verdict,
    classify,
    read,
)
from postfleet_workers.mail.replies.deferral import next_wait_seconds
from postfleet_workers.mail.replies.reply import Phase, Reply, from_detail
from postfleet_workers.mail.replies.rules import Scope

# Mail looks often whether the login has changed; the node is asked seldom, see `refusals`.
LOGIN_SECONDS = 5.0
REFUSED_SECONDS = 10.0
LONGEST_REFUSED_SECONDS = 60.0


class Status(StrEnum):
    """`emails.status`."""

    QUEUED = "queued"
    SENDING = "sending"
    DEFERRED = "deferred"
    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    UNKNOWN = "unknown"
    SUPPRESSED = "suppressed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


# Where no server said anything, and where it said that we are set up wrongly: nothing for a rule to read.
NO_REPLY = Reading(Scope.DESTINATION, permanent=False, rule="")
OUR_FAULT = Reading(Scope.SOURCE, permanent=False, rule="")

# An email in one of these has had its one delivery, or must have none: running its job again sends nothing.
OVER = frozenset({Status.SENT, Status.BOUNCED, Status.UNKNOWN, Status.SUPPRESSED})


@dataclass(frozen=True, slots=True)
class Target:
    """Where a delivery was tried: the sending node, the receiving site and its server; '' where that is not known."""

    node: str
    site: str = ""
    host: str = ""


@dataclass(frozen=True, slots=True)
class MailRecord:
    """One delivery attempt.

    Attributes:
        node: sending node.
        phase: how far it got.
        status: what the email is now, should the ledger accept the outcome.
        text: the server's reply, or what went wrong.
        code: the reply's code, if there was one.
        enhanced: its enhanced code, or ''.
        scope: what a refusal is about, or ''.
        site: the receiving side, or '' where it was not looked up.
        host: the server that it was tried at, or ''.
        rule: the classifier's rule that a refusal fell under, or ''.
    """

    node: str
    phase: str
    status: Status
    text: str
    code: int | None = None
    enhanced: str = ""
    scope: str = ""
    site: str = ""
    host: str = ""
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The deferral schedule: settings, in seconds."""

    base_seconds: float = 300.0
    max_age_seconds: float = 432_000.0


@dataclass(frozen=True, slots=True)
class History:
    """What came before this attempt: earlier deferrals, seconds since the first attempt, and this one's jitter."""

    deferrals: int = 0
    age_seconds: float = 0.0
    jitter: float = 0.0


def outcome_of_reply(reply: Reply, phase: Phase, target: Target, history: History, schedule: Schedule) -> Outcome:
    """The outcome of a transaction that the server ended with an answer."""
    return _outcome(classify(reply, phase), phase, target, history, schedule)


def outcome_of_fault(fault: SmtpFault, target: Target, history: History, schedule: Schedule) -> Outcome:
    """The outcome of a session that failed.

    TLS and logins are ours to mend: mail waits for them, without an attempt and without a deferral. A connection lost
    after the final dot leaves the mail unknown; everything else is safe to try again, by the deferral schedule.
    """
    reply = fault.reply
    match fault:
        case ConnectionLost(phase=Phase.DOT):
            return Done(_unknown(target, f"no reply to the final dot: {fault}"))
        case LoginMissing():
            return Snooze(LOGIN_SECONDS, str(fault), kind="login_missing")
        case DkimMissing():
            return Snooze(LOGIN_SECONDS, str(fault), kind="dkim_missing")
        case LoginRefused():
            return _refused(fault, target, history, "login_refused")
        case TlsFailed():
            return _refused(fault, target, history, "tls_failed")
        case AddressMissing():
            return _refused(fault, target, history, "address_missing")
        case NowhereToGo() if reply is not None:
            return outcome_of_reply(reply, fault.phase, target, history, schedule)
        case _:
            reading = NO_REPLY if reply is None else read(reply, fault.phase)
            return _deferred(reading, fault.phase, target, reply, str(fault), history, schedule)


def _refused(fault: SetupFault, target: Target, history: History, kind: str) -> Snooze:
    """The mail stays what it is; that the server was asked goes on record, where the node's condition reads it."""
    wait = backoff.exponential(fault.times, REFUSED_SECONDS, history.jitter, LONGEST_REFUSED_SECONDS)
    record = _record(target, fault.phase, Status.FAILED, fault.reply, str(fault), OUR_FAULT)
    return Snooze(wait, f"{fault.phase}: {fault}", None if fault.remembered else record, kind=kind)


def outcome_of_trace(trace: Trace, target: Target, history: History, schedule: Schedule) -> Outcome | None:
    """What became of a mail whose worker is gone, from its journal; None: nothing went out, send it again."""
    match trace:
        case Trace(phase="reply", detail=detail):
            answer = from_detail(detail)
            return answer and outcome_of_reply(answer[1], answer[0], target, history, schedule)
        case Trace(phase="dot"):
            return Done(_unknown(target, "the worker died waiting for the final reply"))
        case Trace(complete=True):
            return None
        case _:
            text = "the worker died, and its journal was lost with Redis' data"
            return Done(_unknown(target, text))


def _unknown(target: Target, text: str) -> MailRecord:
    return MailRecord(target.node, Phase.DOT, Status.UNKNOWN, text, site=target.site, host=target.host)


def failed(node: str, phase: str, error: str) -> Permanent:
    """The outcome of a mail that cannot be made or sent, whoever tries."""
    return Permanent(error, MailRecord(node, phase, Status.FAILED, error, scope=Scope.MESSAGE))


def _outcome(verdict: Verdict, phase: Phase, target: Target, history: History, schedule: Schedule) -> Outcome:
    match verdict:
        case Sent(reply=reply):
            return Done(_record(target, phase, Status.SENT, reply))
        case Unknown(reply=reply):
            return Done(_record(target, phase, Status.UNKNOWN, reply, f"no SMTP reply to the final dot: {reply.text}"))
        case Bounced(reading=reading, reply=reply):
            return Done(_record(target, phase, Status.BOUNCED, reply, reading=reading))
        case Deferred(reading=reading, reply=reply):
            outcome = _deferred(reading, phase, target, reply, str(reply), history, schedule)
            # A dialogue was held: greylisting puts off every first try, and its pace is then all there is to measure.
            return replace(outcome, worked=True) if isinstance(outcome, Snooze) else outcome


def _deferred(
    reading: Reading, phase: Phase, target: Target, reply: Reply | None, text: str, history: History, schedule: Schedule
) -> Outcome:
    wait = next_wait_seconds(
        history.deferrals,
        history.age_seconds,
        base_seconds=schedule.base_seconds,
        max_age_seconds=schedule.max_age_seconds,
        jitter=history.jitter,
    )
    if wait is None:
        text = f"given up after {history.deferrals} deferrals: {text}"
        if reading.scope is Scope.SOURCE:  # nobody but us was refused: no bounce, and a person can have it tried again
            return Permanent(text, _record(target, phase, Status.FAILED, reply, text, reading))
        return Done(_record(target, phase, Status.BOUNCED, reply, text, reading))
    record = _record(target, phase, Status.DEFERRED, reply, text, reading)
    return Snooze(wait, f"deferred at {phase}: {text}", record, to_retry_queue=True, kind="deferred")


def _record(
    target: Target, phase: Phase, status: Status, reply: Reply | None, text: str = "", reading: Reading | None = None
) -> MailRecord:
    return MailRecord(
        node=target.node,
        phase=phase,
        status=status,
        text=text or str(reply or ""),
        code=reply.code if reply is not None and reply.code >= 0 else None,
        enhanced=reply.enhanced if reply is not None else "",
        scope=reading.scope if reading is not None else "",
        site=target.site,
        host=target.host,
        rule=reading.rule if reading is not None else "",
    )
