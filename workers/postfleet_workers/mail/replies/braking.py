"""Slows nodes down where a site's replies ask for it, in the transaction that writes the replies down.

The brakes are `slowdown`'s. What has begun stands in `slowdowns`, where the relay and the workers read it; a row whose
time is over means nothing. While an action holds, the stricter value and the later end win. Two transactions that end
at the same moment do not see each other's replies: a threshold may then be noticed one reply late.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Protocol

import structlog
from sqlalchemy import Connection, text

from postfleet_workers.mail.replies import slowdown

log = structlog.get_logger(__name__)

# How often the rules were met lately, no further than their thresholds.
COUNT = text("""
SELECT met.node, met.site, met.rule,
       (SELECT count(*) FROM (
            SELECT FROM email_attempts a
            WHERE a.node = met.node AND a.site = met.site AND a.rule = met.rule
              AND a.finished_at > postfleet_now() - make_interval(secs => met.window_seconds)
            LIMIT met.threshold) AS counted)
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS met(
    node text, site text, rule text, window_seconds integer, threshold integer)
""")

# In the order of the key, so that transactions which slow down the same nodes wait for each other and never in a ring.
BEGIN = text("""
INSERT INTO slowdowns AS held (node, site, action, value, rule, reply, until, created_at)
SELECT node, site, action, value, rule, reply, postfleet_now() + make_interval(secs => duration_seconds),
       postfleet_now()
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS due(
    node text, site text, action text, value integer, rule text, reply text, duration_seconds integer)
ORDER BY node, site, action
ON CONFLICT (node, site, action) DO UPDATE
SET value = CASE WHEN held.until > postfleet_now() THEN least(held.value, excluded.value) ELSE excluded.value END,
    until = greatest(held.until, excluded.until), rule = excluded.rule, reply = excluded.reply,
    created_at = CASE WHEN held.until > postfleet_now() THEN held.created_at ELSE excluded.created_at END
RETURNING node, site, action, value, rule, reply, until, created_at = postfleet_now() AS begun
""")


class Answer(Protocol):
    """A reply that was written to `email_attempts`: a `MailRecord`."""

    @property
    def node(self) -> str:
        """Who sent the mail."""

    @property
    def site(self) -> str:
        """Where to; '' when that is not known."""

    @property
    def rule(self) -> str:
        """The classifier's rule that the reply fell under; '' for none."""

    @property
    def text(self) -> str:
        """The reply."""


def act(connection: Connection, answers: Iterable[Answer]) -> None:
    """Begin what these answers make due; their attempts are written already, in this transaction.

    Asks PostgreSQL nothing unless an answer fell under a rule that has a brake, at a site that is known.
    """
    met = {(a.node, a.site, a.rule): a.text for a in answers if a.site and slowdown.find(a.rule) is not None}
    if not met:
        return
    begun = [
        (node, site, rule, action)
        for node, site, rule, count in _counts(connection, met)
        for action in slowdown.due(rule, count)
    ]
    # Of two of a kind at a time the last one counts: the stricter, and of equals the longer.
    begun.sort(key=lambda each: (-(each[-1].value or 0), each[-1].duration_seconds))
    due = {
        (node, site, action.kind): {
            "node": node, "site": site, "action": action.kind, "value": action.value, "rule": rule,
            "reply": met[node, site, rule], "duration_seconds": action.duration_seconds,
        }
        for node, site, rule, action in begun
    }  # fmt: skip
    if not due:
        return
    for row in connection.execute(BEGIN, {"rows": json.dumps(list(due.values()))}).mappings():
        if row["begun"]:
            log.warning(
                "node_slowed_down", node=row["node"], site=row["site"], action=row["action"], value=row["value"],
                until=row["until"].isoformat(), rule=row["rule"], reply=row["reply"],
            )  # fmt: skip


def _counts(connection: Connection, met: Iterable[tuple[str, str, str]]) -> Iterable[tuple[str, str, str, int]]:
    rows = [
        {"node": node, "site": site, "rule": rule, "window_seconds": brake.window_seconds, "threshold": brake.threshold}
        for node, site, rule in met
        if (brake := slowdown.find(rule)) is not None
    ]
    return [(r[0], r[1], r[2], r[3]) for r in connection.execute(COUNT, {"rows": json.dumps(rows)})]
