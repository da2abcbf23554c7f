"""Mail of which nobody knows whether it arrived: what a person says became of it, or that it goes out once more.

Sending again is a new run of the same job, with the same Message-ID: a receiver that got the first copy can tell. By
itself it happens once, to transactional mail that asked for it (`emails.on_unknown`), in the transaction that found
out; everything else waits for a person. Each word of a person stands among the email's attempts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import Connection, text

from postfleet_workers.enqueue import notify
from postfleet_workers.mail.replies.outcome import Status

RESOLVED = "resolved"

OPTED_IN = text("""
SELECT id FROM emails
WHERE job_id = ANY(:job_ids) AND status = 'unknown' AND on_unknown = 'resend' AND class = 'transactional'
  AND resends = 0
""")
# What is unknown, locked in order of the id: two people at once wait for each other instead of deadlocking.
LOCK = text("""
SELECT id, status FROM emails WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
FIND = text("""
SELECT id FROM emails
WHERE campaign_id = :campaign_id AND status = 'unknown' AND id > :after ORDER BY id LIMIT :limit
""")

# A time that is over would expire the mail at once, or have it given up at the first deferral: who wants it sent again
# wants it sent.
RESEND = text("""
WITH again AS (
    UPDATE emails e SET status = 'queued', resends = e.resends + 1, finished_at = NULL, begun_at = NULL
    FROM jobs j
    WHERE e.id = ANY(:ids) AND e.status = 'unknown' AND j.id = e.job_id AND j.state = 'completed'
    RETURNING e.id, e.job_id
)
UPDATE jobs j SET state = 'available', attempt = 0, strikes = 0, run_at = postfleet_now(), finished_at = NULL,
    expires_at = CASE WHEN j.expires_at > postfleet_now() THEN j.expires_at END,
    published_until = NULL, claimed_by = NULL, claim = NULL, claim_epoch = NULL, claimed_at = NULL,
    cancel_requested = false
FROM again WHERE j.id = again.job_id RETURNING again.id, j.queue
""")
SETTLE = text("""
UPDATE emails SET status = :status, reply = :reply, finished_at = postfleet_now()
WHERE id = ANY(:ids) AND status = 'unknown' RETURNING id
""")
ADD_WORD = text("""
INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, reply, fenced, started_at, finished_at)
SELECT e.id, coalesce(j.publication, 0), '', e.node, 'resolved', 'resolved', :reply, false, postfleet_now(),
       postfleet_now()
FROM emails e LEFT JOIN jobs j ON j.id = e.job_id WHERE e.id = ANY(:ids)
""")


class Resolution(StrEnum):
    """What a person says became of an unknown mail; `resend`: nobody knows, send it again."""

    SENT = "sent"
    BOUNCED = "bounced"
    FAILED = "failed"
    RESEND = "resend"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What became of one email that a person named. `result` says it in words; `was` is None for one that is not."""

    id: int
    was: str | None
    result: str
    changed: bool
    agrees: bool = True


def resend_opted_in(connection: Connection, job_ids: Sequence[int]) -> None:
    """Send again, once, what asked for it, of the emails of these jobs that have just become unknown."""
    if ids := list(connection.execute(OPTED_IN, {"job_ids": list(job_ids)}).scalars()):
        _resend(connection, ids)


def find(connection: Connection, campaign_id: int, *, after: int = 0, limit: int = 1_000) -> list[int]:
    """Unknown emails of a campaign above the id `after`, ascending: one page."""
    parameters = {"campaign_id": campaign_id, "after": after, "limit": limit}
    return list(connection.execute(FIND, parameters).scalars())


def resolve(connection: Connection, ids: Sequence[int], resolution: Resolution, note: str = "") -> list[Resolved]:
    """Do what a person says about these emails, once: one that is no longer unknown is left as it is.

    Args:
        connection: in a transaction.
        ids: emails; each counts once.
        resolution: what became of them.
        note: why, in the person's words.
    """
    found = {row.id: row for row in connection.execute(LOCK, {"ids": list(ids)})}
    word = f"{RESOLVED}: {resolution}" + (f", {note}" if note else "")
    if resolution is Resolution.RESEND:
        done = _resend(connection, list(found))
    else:
        settled = connection.execute(SETTLE, {"ids": list(found), "status": resolution.value, "reply": word})
        done = set(settled.scalars())
    if done:
        connection.execute(ADD_WORD, {"ids": list(done), "reply": word})
    return [_resolved(i, found[i].status if i in found else None, resolution, i in done) for i in dict.fromkeys(ids)]


def _resend(connection: Connection, ids: Sequence[int]) -> set[int]:
    rows = connection.execute(RESEND, {"ids": list(ids)}).all()
    if rows:
        notify(connection, sorted({row.queue for row in rows}))
    return {row.id for row in rows}


def _resolved(email_id: int, was: str | None, resolution: Resolution, done: bool) -> Resolved:
    if was is None:
        return Resolved(email_id, was, "no such email", changed=False, agrees=False)
    if done:
        return Resolved(email_id, was, "queued" if resolution is Resolution.RESEND else resolution, changed=True)
    if was == Status.UNKNOWN:
        return Resolved(email_id, was, "its job is gone, nothing can send it again", changed=False, agrees=False)
    if was == resolution:
        return Resolved(email_id, was, f"is {was} already", changed=False)
    return Resolved(email_id, was, f"is {was}, not unknown", changed=False, agrees=False)
