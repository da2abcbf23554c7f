"""Emails as people look at them: a list by many questions, and all that is known of one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from postfleet_workers.contacts.addresses import BadAddress, normalized
from postfleet_workers.mail.replies.outcome import Status

# `sending` is what an email is while its job runs; it is not worth a write.
_SHOWN = """
SELECT e.id, CASE WHEN j.state = 'executing' AND e.status IN ('queued', 'deferred') THEN 'sending' ELSE e.status END
       AS status, e.tenant, c.name AS campaign, e.class, e.node, e.recipient, e.message_id, e.deferrals, e.on_unknown,
       e.resends, e.due_at, e.begun_at, e.finished_at,
       CASE WHEN j.state IN ('scheduled', 'available', 'retryable') THEN j.run_at END AS next_try_at, e.reply, e.job_id,
       j.state AS job_state
FROM emails e LEFT JOIN campaigns c ON c.id = e.campaign_id LEFT JOIN jobs j ON j.id = e.job_id
"""
LIST = text(f"""
SELECT * FROM ({_SHOWN}
    WHERE (CAST(:after AS bigint) IS NULL OR e.id < :after)
      AND (CAST(:campaign AS text) IS NULL OR c.name = :campaign)
      AND (CAST(:tenant AS text) IS NULL OR e.tenant = :tenant)
      AND (CAST(:stored AS text[]) IS NULL OR e.status = ANY(CAST(:stored AS text[])))
      AND (CAST(:recipients AS text[]) IS NULL OR e.recipient = ANY(CAST(:recipients AS text[])))
      AND (CAST(:since AS timestamptz) IS NULL OR e.due_at >= :since)
      AND (CAST(:until AS timestamptz) IS NULL OR e.due_at < :until)
      AND (CAST(:site AS text) IS NULL AND CAST(:scope AS text) IS NULL OR EXISTS (
               SELECT FROM email_attempts a WHERE a.email_id = e.id
                 AND (CAST(:site AS text) IS NULL OR a.site = :site)
                 AND (CAST(:scope AS text) IS NULL OR a.scope = :scope)))) shown
WHERE CAST(:status AS text) IS NULL OR status = :status
ORDER BY id DESC LIMIT :limit
""")  # noqa: S608 - two constants joined
SHOW = text(f"{_SHOWN} WHERE e.id = :id")
ATTEMPTS = text("""
SELECT started_at, finished_at, round(extract(epoch FROM finished_at - started_at), 3) AS seconds, worker, node, site,
       host, phase, outcome, code, enhanced, scope, rule, reply, fenced, publication
FROM email_attempts WHERE email_id = :id ORDER BY id
""")
EVENTS = text("SELECT at, kind, machine, url, detail FROM email_events WHERE email_id = :id ORDER BY at, id")


@dataclass(frozen=True, slots=True)
class Question:
    """Which emails: all that is given must fit.

    Attributes:
        status: what it is; `sending` is one whose job runs now.
        campaign: name of its campaign.
        tenant: whose it is.
        recipient: its address, in the case in which it was given or in the form in which contacts have it.
        site: where one of its attempts went.
        scope: what a refusal of one of its attempts was about.
        since: due at that time or later.
        until: due before that time.
        after: id of the last one seen: the page after it.
    """

    status: Status | None = None
    campaign: str | None = None
    tenant: str | None = None
    recipient: str | None = None
    site: str | None = None
    scope: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: int | None = None


def emails(connection: Connection, question: Question, *, limit: int = 100) -> Sequence[dict[str, Any]]:
    """Emails, newest first."""
    status = question.status
    stored = None if status is None else [status.value]
    if status is Status.SENDING:  # stored as it was before
        stored = [Status.QUEUED.value, Status.DEFERRED.value]
    recipient = question.recipient
    parameters = {
        "status": status, "stored": stored, "campaign": question.campaign, "tenant": question.tenant,
        "recipients": None if recipient is None else _forms(recipient), "site": question.site,
        "scope": question.scope, "since": question.since, "until": question.until, "after": question.after,
        "limit": limit,
    }  # fmt: skip
    return [dict(row) for row in connection.execute(LIST, parameters).mappings()]


def _forms(recipient: str) -> list[str]:
    """How emails may have an address: single ones as it was given, but for the domain; a campaign's, as contacts do."""
    found = [recipient, recipient.lower()]
    with suppress(BadAddress):
        found.append(normalized(recipient))
    return found


def email(connection: Connection, email_id: int) -> dict[str, Any] | None:
    """One email with its `attempts` and `events`, oldest first."""
    row = connection.execute(SHOW, {"id": email_id}).mappings().one_or_none()
    if row is None:
        return None
    parts = {"attempts": ATTEMPTS, "events": EVENTS}
    return {
        **row,
        **{
            name: [dict(r) for r in connection.execute(query, {"id": email_id}).mappings()]
            for name, query in parts.items()
        },
    }
