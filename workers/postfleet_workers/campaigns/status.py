"""How far a campaign is: counts by email status, its progress, and the state that people see."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, text

from postfleet_workers.mail.replies.outcome import Status

STATUSES = tuple(status.value for status in Status)
UNFINISHED = frozenset({Status.QUEUED, Status.SENDING, Status.DEFERRED})

SELECT = """
SELECT c.id, c.name, c.tenant, l.name AS list, c.queue, c.nodes, c.state, c.created_at, c.started_at,
       EXISTS (SELECT FROM holds h WHERE h.kind = 'batch' AND h.key = 'campaign:' || c.id) AS held,
       (SELECT jsonb_object_agg(status, n) FROM (
            SELECT e.status, count(*) AS n FROM emails e WHERE e.campaign_id = c.id GROUP BY e.status) s) AS counts,
       CASE WHEN c.state IN ('draft', 'expanding')
            THEN (SELECT count(*) FROM contact_list_members m WHERE m.list_id = c.list_id) END AS members
FROM campaigns c JOIN contact_lists l ON l.id = c.list_id
"""
ONE = text(f"{SELECT} WHERE c.id = :id")
ALL = text(f"{SELECT} WHERE CAST(:tenant AS text) IS NULL OR c.tenant = :tenant ORDER BY c.id DESC")


def visible_state(state: str, counts: Mapping[str, int], *, held: bool) -> str:
    """The state as people see it: `paused` and `completed` are not stored, they follow from other rows. Pure."""
    if state in {"draft", "cancelled"}:
        return state
    if state == "running" and not any(counts.get(status) for status in UNFINISHED):
        return "completed"
    return "paused" if held else state


def status(connection: Connection, campaign_id: int) -> dict[str, Any]:
    """One campaign's state, counts by status, total and progress (0 to 1: the share of mails that are final)."""
    return _row(connection.execute(ONE, {"id": campaign_id}).mappings().one())


def statuses(connection: Connection, tenant: str | None = None) -> list[dict[str, Any]]:
    """All campaigns (of a tenant), newest first."""
    return [_row(row) for row in connection.execute(ALL, {"tenant": tenant}).mappings()]


def _row(row: Mapping[Any, Any]) -> dict[str, Any]:
    counts = {name: (row["counts"] or {}).get(name, 0) for name in STATUSES}
    expanded = sum(counts.values())
    total = max(expanded, row["members"] or 0)
    final = sum(n for name, n in counts.items() if name not in UNFINISHED)
    return {
        "id": row["id"],
        "name": row["name"],
        "tenant": row["tenant"],
        "state": visible_state(row["state"], counts, held=row["held"]),
        "list": row["list"],
        "queue": row["queue"],
        "nodes": list(row["nodes"]),
        "total": total,
        "expanded": expanded,
        "progress": round(final / total, 4) if total else 0.0,
        "counts": counts,
        "created_at": row["created_at"],
        "started_at": row["started_at"],
    }
