"""Write what became of a bundle's emails, in the transaction that settles their jobs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Connection

from postfleet_workers.jobs import HandBack, Settled
from postfleet_workers.mail import queries, suppressions, unknown
from postfleet_workers.mail.replies import braking
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.mail.tokens import Key
from postfleet_workers.states import State
from postfleet_workers.store.arrays import plain, texts


class _Row(NamedTuple):
    """What is written of one outcome: to its email, unless `status` is None, and as an attempt, unless `outcome` is."""

    job_id: int
    status: Status | None
    counted: bool
    started_at: datetime | None
    expires_at: datetime | None
    reply: str | None
    outcome: Status | None = None
    publication: int = 0
    worker: str = ""
    node: str = ""
    phase: str = ""
    code: int | None = None
    enhanced: str | None = None
    scope: str | None = None
    fenced: bool = False
    site: str | None = None
    host: str | None = None
    rule: str | None = None


# The parameters of `queries.SETTLE`, in the order of the row's fields, and how each is written.
COLUMNS: tuple[tuple[str, Callable[[Collection[Any]], str]], ...] = (
    ("job_ids", plain), ("statuses", texts), ("counted", plain), ("started", plain), ("expires", plain),
    ("replies", texts), ("outcomes", texts), ("publications", plain), ("workers", texts), ("nodes", texts),
    ("phases", texts), ("codes", plain), ("enhanced", texts), ("scopes", texts), ("fenced", plain),
    ("sites", texts), ("hosts", texts), ("rules", texts),
)  # fmt: skip


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
    if rows := [row for s in settled if (row := _row(s))]:
        connection.execute(queries.SETTLE, _columns(rows))
    if lost := [row.job_id for row in rows if row.status == Status.UNKNOWN]:
        unknown.resend_opted_in(connection, lost)
    suppressions.from_records(connection, settled, key)
    braking.act(connection, (record for s in settled if (record := _record(s))))


def _columns(rows: Sequence[_Row]) -> dict[str, str]:
    columns = zip(*rows, strict=True)
    given = {name: make(column) for (name, make), column in zip(COLUMNS, columns, strict=True)}
    return {**given, "unchanged": plain([row.job_id for row in rows if row.status is None])}


def _record(settled: Settled) -> MailRecord | None:
    record = None if isinstance(settled.outcome, HandBack) else settled.outcome.record
    return record if isinstance(record, MailRecord) else None


def _row(settled: Settled) -> _Row | None:
    """What is written of one; None for what leaves no trace."""
    status, record = status_after(settled), _record(settled)
    job = settled.job
    if record is None:
        if status is None:
            return None
        return _Row(job.id, status, False, settled.started_at, job.expires_at, _error(settled))
    return _Row(
        job.id,
        status,
        record.status is Status.DEFERRED,
        settled.started_at,
        job.expires_at,
        record.text,
        record.status,
        job.publication,
        settled.worker,
        record.node,
        record.phase,
        record.code,
        record.enhanced or None,
        record.scope or None,
        not settled.accepted,
        record.site or None,
        record.host or None,
        record.rule or None,
    )


def _error(settled: Settled) -> str | None:
    """Why a job ended that has no record: its error, when it ended for good."""
    if settled.state not in {State.DISCARDED, State.CANCELLED}:
        return None
    error = getattr(settled.outcome, "error", None)
    return str(error) if error else None
