"""What receivers have refused lately, the same replies together: what to look at, and which rules are missing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from postfleet_workers.mail.replies.classify import FALLBACK
from postfleet_workers.mail.replies.masking import mask

FETCHED = 5_000

# Refusals carry a rule: its index answers, however many mails were sent.
REPLIES = text("""
SELECT coalesce(site, '') AS site, phase, outcome, code, enhanced, coalesce(scope, '') AS scope, rule, reply,
       email_id, finished_at
FROM email_attempts
WHERE rule IS NOT NULL AND finished_at >= :since
  AND (NOT :unmatched OR rule LIKE :fallback)
  AND (CAST(:node AS text) IS NULL OR node = :node)
  AND (CAST(:site AS text) IS NULL OR site = :site)
""")


@dataclass(slots=True)
class _Group:
    count: int
    last_at: datetime
    email_id: int
    example: str


def refusals(
    connection: Connection,
    since: datetime,
    *,
    unmatched: bool = False,
    node: str | None = None,
    site: str | None = None,
) -> list[dict[str, Any]]:
    """Refusals since then, grouped by what was said to which command, the most frequent first.

    Args:
        connection: in a transaction.
        since: of the attempts.
        unmatched: only those that no rule of the classifier knows.
        node: only this node's.
        site: only of this site.
    """
    parameters = {"since": since, "unmatched": unmatched, "fallback": f"{FALLBACK}%", "node": node, "site": site}
    rows = connection.execute(REPLIES, parameters, execution_options={"yield_per": FETCHED})
    groups: dict[tuple[Any, ...], _Group] = {}
    for row in rows:
        said = mask(_words(row.reply or "", row.code, row.enhanced))
        key = (said, row.site, row.phase, row.code, row.enhanced, row.scope, row.rule)
        group = groups.setdefault(key, _Group(0, row.finished_at, row.email_id, row.reply))
        group.count += 1
        if row.finished_at >= group.last_at:
            group.last_at, group.email_id, group.example = row.finished_at, row.email_id, row.reply
    ordered = sorted(groups.items(), key=lambda item: (-item[1].count, item[0][0]))
    return [
        {
            "count": group.count, "reply": said, "site": at, "phase": phase, "code": code, "enhanced": enhanced,
            "scope": scope, "rule": rule, "last_at": group.last_at, "email_id": group.email_id,
            "example": group.example,
        }
        for (said, at, phase, code, enhanced, scope, rule), group in ordered
    ]  # fmt: skip


def _words(reply: str, code: int | None, enhanced: str | None) -> str:
    """A reply without the codes that it begins with, which have columns of their own."""
    for part in (code, enhanced):
        if part is not None:
            reply = reply.removeprefix(str(part)).lstrip()
    return reply
