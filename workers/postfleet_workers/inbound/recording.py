"""Write down what a report says, in one transaction: the event, what the email is now, whom not to write to again.

Everything here is safe to repeat: a server that did not get our 250 sends its report again. A mail bounces once and is
complained of once, whatever number of reports say so; of the notices that it is late `MOST_DELAYS` count.
"""

from __future__ import annotations

import hashlib

import structlog
from sqlalchemy import Connection, Engine, text

from postfleet_workers.errors import TransientError
from postfleet_workers.inbound.reports import Action, Complaint, DeliveryReport, Ignored, read
from postfleet_workers.mail import events, returnpath, suppressions
from postfleet_workers.mail.replies.reply import MAX_TEXT, Phase, Reply
from postfleet_workers.mail.suppressions import ERASED_DOMAIN, Reason
from postfleet_workers.mail.tokens import Key
from postfleet_workers.store.session import transaction

log = structlog.get_logger(__name__)

MOST_DELAYS = 100  # servers send one a day at most: so that nobody who knows a return path fills the table

FIND = text("SELECT id, recipient FROM emails WHERE id = :id")
# Its server may tell of a mail before the worker that sent it does.
UNDER_WAY = text("""
SELECT EXISTS (SELECT FROM emails e JOIN jobs j ON j.id = e.job_id
               WHERE e.id = :id AND e.status IN ('queued', 'sending', 'deferred') AND j.state = 'executing')
""")
DELAYS = text("SELECT count(*) FROM email_events WHERE email_id = :id AND kind = 'delay'")
FIND_BY_MESSAGE_ID = text("""
SELECT id FROM emails
WHERE recipient IN (:recipient, lower(:recipient)) AND message_id IN (:message_id, :without_domain) LIMIT 1
""")
ADD_EVENT = text("""
INSERT INTO email_events (email_id, kind, detail, unique_key, at)
VALUES (:id, :kind, :detail, :unique_key, postfleet_now())
ON CONFLICT (unique_key) DO NOTHING
""")
# A mail whose fate nobody knew did arrive somewhere, it turns out.
BOUNCE = text("UPDATE emails SET status = 'bounced', reply = :detail WHERE id = :id AND status IN ('sent', 'unknown')")


class TooEarly(TransientError):  # noqa: N818 - a state of the world
    """The mail is on its way yet, and what became of it is not written down: the report is to come again."""


_UNSUBSCRIBED = {True: "unsubscribe", False: "repeated", None: "unidentified"}


def take(engine: Engine, key: Key, recipient: str, content: bytes) -> str:
    """Do what a mail asks for that came to `recipient`, one of our addresses; committed when it returns.

    Returns what it was, a `kind` of `inbound_reports_total`.

    Raises:
        StoreUnavailable: PostgreSQL went away; nothing is sure to be written.
        TooEarly: it is about a mail that is being sent just now; nothing was written.
    """
    leaving = returnpath.read_unsubscribe(recipient, key)
    if leaving is not None:
        with transaction(engine) as connection:
            return _UNSUBSCRIBED[events.unsubscribe(connection, leaving, key)]
    email_id = returnpath.read(recipient, key)
    try:
        report = read(content, key, complaints=email_id is None)
    except Exception as error:  # noqa: BLE001 - whatever a stranger's mail does to a parser, it must not come again
        log.warning("inbound_unreadable", email_id=email_id, error=f"{type(error).__name__}: {error}")
        return "unreadable"
    match report:
        case Ignored():
            return str(report)
        case Complaint():
            with transaction(engine) as connection:
                return _complaint(connection, key, report, email_id)
        case DeliveryReport():
            if email_id is None:
                return "unidentified"
            with transaction(engine) as connection:
                return _delivery(connection, key, report, email_id, content)


def _delivery(connection: Connection, key: Key, report: DeliveryReport, email_id: int, content: bytes) -> str:
    row = connection.execute(FIND, {"id": email_id}).one_or_none()
    if row is None:
        return "unidentified"
    status = report.about(row.recipient)
    detail = _shown(status.reply, row.recipient)
    match status.action:
        case Action.DELIVERED:
            return "delivered"
        case Action.DELAYED:
            digest = hashlib.sha256(content).hexdigest()[:32]
            if connection.execute(DELAYS, {"id": email_id}).scalar_one() >= MOST_DELAYS:
                return "repeated"
            return "delay" if _event(connection, email_id, "delay", detail, digest) else "repeated"
        case Action.FAILED:
            if connection.execute(UNDER_WAY, {"id": email_id}).scalar_one():
                raise TooEarly(f"email {email_id} is being sent")
            if not _event(connection, email_id, "bounce", detail):
                return "repeated"
            connection.execute(BOUNCE, {"id": email_id, "detail": detail})
            if suppressions.is_hard(status.reply, Phase.RCPT):
                suppressions.of_emails(connection, {email_id: (Reason.HARD_BOUNCE, detail)}, key)
            return "bounce"


def _complaint(connection: Connection, key: Key, complaint: Complaint, email_id: int | None) -> str:
    """The address that it came to tells which mail it is about; else the mail's headers do."""
    email_id = email_id or complaint.email_id or _by_message_id(connection, complaint)
    if email_id is None or connection.execute(FIND, {"id": email_id}).one_or_none() is None:
        log.info("complaint_unidentified", type=complaint.type, reporter=complaint.reporter)
        return "unidentified"
    detail = ", reported by ".join(filter(None, (complaint.type or "abuse", complaint.reporter)))[:MAX_TEXT]
    if not _event(connection, email_id, "complaint", detail):
        return "repeated"
    suppressions.of_emails(connection, {email_id: (Reason.COMPLAINT, detail)}, key)
    return "complaint"


def _by_message_id(connection: Connection, complaint: Complaint) -> int | None:
    """Nobody but its recipient knows a mail's Message-ID."""
    if not complaint.recipient or not complaint.message_id:
        return None
    names = {
        "recipient": complaint.recipient,
        "message_id": complaint.message_id,
        "without_domain": f"{complaint.message_id.partition('@')[0]}>",
    }
    return connection.execute(FIND_BY_MESSAGE_ID, names).scalar_one_or_none()


def _event(connection: Connection, email_id: int, kind: str, detail: str, *more: str) -> bool:
    """Whether it is news."""
    unique_key = ":".join((kind, str(email_id), *more))
    values = {"id": email_id, "kind": kind, "detail": detail, "unique_key": unique_key}
    return connection.execute(ADD_EVENT, values).rowcount == 1


def _shown(reply: Reply, recipient: str) -> str:
    """A server's words; without them where they may name somebody who was erased."""
    if recipient.endswith(f"@{ERASED_DOMAIN}"):
        reply = Reply(reply.code, reply.enhanced, "")
    return str(reply)
