"""A campaign's recipients: who got it, who did not, and why."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Connection, Engine, text

from postfleet_workers.store.session import transaction

PAGE = 5_000

# Why an email is what it is: what its last refusal was about and the rule that said so, or what else is known.
_REASON = """
CASE WHEN e.status IN ('bounced', 'failed', 'deferred')
     THEN CASE WHEN a.outcome = 'sent' THEN 'reported after it was accepted'
               WHEN a.outcome = 'resolved' THEN 'a person said so'
               ELSE concat_ws(': ', a.scope, a.rule) END
     WHEN e.status IN ('suppressed', 'unknown') THEN split_part(e.reply, ':', 1)
     WHEN v.complained THEN 'complained' ELSE '' END
"""
_COMPLAINED = """
LEFT JOIN LATERAL (SELECT true AS complained FROM email_events v WHERE v.email_id = e.id AND v.kind = 'complaint'
                   LIMIT 1) v ON true
"""
_ATTEMPT = "SELECT * FROM email_attempts a WHERE a.email_id = e.id"
_LAST = "ORDER BY a.id DESC LIMIT 1"
# Only of what was refused is the attempt looked at: most mail was sent.
SUMMARY = text(f"""
SELECT status, reason, count(*) AS emails, min(reply) AS example
FROM (SELECT e.status, {_REASON} AS reason, e.reply
      FROM emails e
      LEFT JOIN LATERAL ({_ATTEMPT} AND e.status IN ('bounced', 'failed', 'deferred') {_LAST}) a ON true {_COMPLAINED}
      WHERE e.campaign_id = :campaign_id) mails
GROUP BY status, reason ORDER BY count(*) DESC, status, reason
""")  # noqa: S608 - constants joined
EACH = text(f"""
SELECT e.id, e.recipient, e.status, {_REASON} AS reason, a.site, a.host, a.code, a.enhanced, e.node, e.deferrals,
       e.due_at, e.begun_at, e.finished_at, e.reply
FROM emails e LEFT JOIN LATERAL ({_ATTEMPT} {_LAST}) a ON true {_COMPLAINED}
WHERE e.campaign_id = :campaign_id AND e.id > :after ORDER BY e.id LIMIT :limit
""")  # noqa: S608 - constants joined
COLUMNS = (
    "id", "recipient", "status", "reason", "site", "host", "code", "enhanced", "node", "deferrals", "due_at",
    "begun_at", "finished_at", "reply",
)  # fmt: skip


def summary(connection: Connection, campaign_id: int) -> list[dict[str, Any]]:
    """How many emails became what, why, with the reply of one of them as an example; the most first."""
    return [dict(row) for row in connection.execute(SUMMARY, {"campaign_id": campaign_id}).mappings()]


def each(engine: Engine, campaign_id: int) -> Iterator[dict[str, Any]]:
    """Every recipient with what became of the mail (`COLUMNS`), in the order of the emails; a page per transaction."""
    after = 0
    while True:
        with transaction(engine) as connection:
            parameters = {"campaign_id": campaign_id, "after": after, "limit": PAGE}
            page = [dict(row) for row in connection.execute(EACH, parameters).mappings()]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["id"]
