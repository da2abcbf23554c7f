"""Write what became of a bundle's emails, in the transaction that settles their jobs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.jobs import HandBack, Settled
from postfleet_workers.mail import queries, suppressions, unknown
from postfleet_workers.mail.replies import braking
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.mail.tokens import Key
from postfleet_workers.states import State


def status_after(settled: Settled) -> Status | None:
    """What the email is now; None leaves it as it is. The job's state decides, the record says which kind of done."""
    record = _record(settled)
    if not settled.accepted:
        return None
    match settled.state:
        case State.COMPLETED:
            return record.status if record else None
        case State.DISCARDED:
            return Status.FAILED
        case State.CANCELLED:
            return Status.CANCELLED  # SQL makes it `expired` where the job's time was up
        case State.RETRYABLE:
            return Status.DEFERRED
        case State.SCHEDULED:
            return Status.DEFERRED if record and record.status is Status.DEFERRED else None
        case _:
            return None


def settle(connection: Connection, settled: Sequence[Settled], key: Key | None = None) -> None:
    """Update the emails and add their attempts; those of fenced outcomes too, marked so.

    What follows from that happens in the same transaction: unknown mail that asked for it is sent again, addresses that
    are none are suppressed, nodes slow down where their receivers ask for it.

    Args:
        connection: in a transaction.
        settled: a bundle's, or a rescue's.
        key: of the hashes of erased addresses.
    """
    changes = [change for s in settled if (change := _change(s))]
    records = [(s, record) for s in settled if (record := _record(s))]
    if changes:
        connection.execute(queries.SETTLE, _named(changes))
    if records:
        attempts = [_attempt(s, record) for s, record in records]
        connection.execute(queries.ADD_ATTEMPTS, _named(attempts))
    if lost := [change["job_id"] for change in changes if change["status"] == Status.UNKNOWN]:
        unknown.resend_opted_in(connection, lost)
    suppressions.from_records(connection, settled, key)
    braking.act(connection, (record for _, record in records))


def _named(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    return {"rows": json.dumps(rows), "job_ids": [row["job_id"] for row in rows]}


def _record(settled: Settled) -> MailRecord | None:
    record = None if isinstance(settled.outcome, HandBack) else settled.outcome.record
    return record if isinstance(record, MailRecord) else None


def _change(settled: Settled) -> dict[str, Any] | None:
    status = status_after(settled)
    if status is None:
        return None
    record = _record(settled)
    return {
        "job_id": settled.job.id,
        "status": status,
        "counted": record is not None and record.status is Status.DEFERRED,
        "begun_at": settled.started_at.isoformat() if settled.started_at else None,
        "expires_at": settled.job.expires_at.isoformat() if settled.job.expires_at else None,
        "reply": record.text if record else _error(settled),
    }


def _attempt(settled: Settled, record: MailRecord) -> dict[str, Any]:
    return {
        "job_id": settled.job.id,
        "publication": settled.job.publication,
        "worker": settled.worker,
        "node": record.node,
        "phase": record.phase,
        "outcome": record.status,
        "code": record.code,
        "enhanced": record.enhanced or None,
        "scope": record.scope or None,
        "reply": record.text,
        "site": record.site or None,
        "host": record.host or None,
        "rule": record.rule or None,
        "fenced": not settled.accepted,
        "started_at": settled.started_at.isoformat() if settled.started_at else None,
    }


def _error(settled: Settled) -> str | None:
    """Why a job ended that has no record: its error, when it ended for good."""
    if settled.state not in {State.DISCARDED, State.CANCELLED}:
        return None
    error = getattr(settled.outcome, "error", None)
    return str(error) if error else None
