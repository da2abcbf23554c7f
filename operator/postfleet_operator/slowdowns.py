"""What the replies of receiving sites have made the nodes do there: the workers write it, the operator shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

# A node shows no more of them.
MOST = 20

IN_FORCE = """
SELECT node, site, action, value, rule, reply, extract(epoch FROM until - postfleet_now())::float8
FROM (
    SELECT *, row_number() OVER (PARTITION BY node ORDER BY until DESC, site, action) AS place
    FROM slowdowns WHERE node = ANY(%(nodes)s) AND until > postfleet_now()
) AS ranked
WHERE place <= %(most)s ORDER BY node, site, action
"""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """One thing that a node does at one site.

    Attributes:
        site: the receiving site.
        action: suspend, per_minute or connections.
        value: mails a minute, or connections; None when suspended.
        until: epoch seconds on the operator's clock.
        rule: the rule that its replies fell under.
        reply: the last of these replies.
    """

    site: str
    action: str
    value: int | None
    rule: str
    reply: str
    until: float


def told(status: Mapping[str, Any]) -> str:
    """An entry of a node's `status.slowdowns`, for people."""
    site, value = status["site"], status.get("value")
    match status["action"]:
        case "suspend":
            return f"no mail to {site}"
        case "per_minute":
            return f"at most {value} mails a minute to {site}"
        case _:
            return f"at most {value} connections to {site}"


def in_force(
    connection: psycopg.Connection[Any], nodes: Sequence[str], now: float
) -> Mapping[str, tuple[Slowdown, ...]]:
    """By node, what holds now, ordered by site; of a node with more than `MOST`, those that last longest.

    `now` is epoch seconds on the operator's clock.

    Raises:
        psycopg.Error: PostgreSQL does not answer.
    """
    found: dict[str, list[Slowdown]] = defaultdict(list)
    rows = connection.execute(IN_FORCE, {"nodes": list(nodes), "most": MOST})
    for node, site, action, value, rule, reply, left in rows:
        found[node].append(Slowdown(site, action, value, rule, reply, now + left))
    return {node: tuple(each) for node, each in found.items()}
