"""What the relay looks up for its metrics alone, now and then: dead letters, late jobs, unknown mails, nodes' rates."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, text

from postfleet_workers.metrics.relay import QueueCounts
from postfleet_workers.relay.gate import Rules
from postfleet_workers.relay.permits import PLAN_HORIZON_SECONDS

COUNT_SECONDS = 15.0  # about as often as Prometheus asks
COUNT_LIMIT = 10_000  # of each: beyond it nobody's answer differs

# Both from a partial index of the state, however many rows are final.
COUNT_QUEUES = text("""
SELECT q.queue,
       (SELECT count(*) FROM (SELECT FROM jobs WHERE queue = q.queue AND state IN ('scheduled', 'retryable')
                                AND run_at <= postfleet_now() LIMIT :most) late) AS overdue,
       (SELECT count(*) FROM (SELECT FROM jobs WHERE queue = q.queue AND state = 'discarded' LIMIT :most) dead)
           AS discarded
FROM unnest(CAST(:queues AS text[])) AS q(queue)
""")
COUNT_UNKNOWN = text("""
SELECT count(*) FROM (SELECT FROM emails WHERE status = 'unknown' AND status NOT IN ('queued', 'sent') LIMIT :most) u
""")


def count(connection: Connection, queues: Iterable[str]) -> tuple[dict[str, QueueCounts], int]:
    """Counts of these queues, and the emails of which nobody knows whether they went out."""
    found = connection.execute(COUNT_QUEUES, {"queues": list(queues), "most": COUNT_LIMIT})
    by_queue = {row.queue: QueueCounts(row.overdue, row.discarded) for row in found}
    return by_queue, int(connection.execute(COUNT_UNKNOWN, {"most": COUNT_LIMIT}).scalar_one())


def node_rates(rules: Rules, plan: Mapping[str, int]) -> dict[str, float]:
    """Emails per second that each node's limits let through in the next minute; only nodes in the `plan`. Pure."""
    rates = {}
    for name, node in rules.nodes.items():
        permitted = [plan[limit.key] for limit in (*node.limits, node.sessions) if limit.key in plan]
        if permitted:
            rates[name] = 0.0 if node.paused or node.invalid else min(permitted) / PLAN_HORIZON_SECONDS
    return rates
