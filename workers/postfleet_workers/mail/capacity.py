"""Which node a new mail goes to: each gets the share that it lets through, and none that it may not send.

A node's capacity at a site is the tightest of what limits it there, a day: its rates, its warmup's cap, the site's
limits, a slow-down, and its sessions at a mail a second each. The choice is fixed by the mail's turn (a contact's id,
or a number made of the recipient's address), so that the same recipient has the same node while capacities stay.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import structlog
from sqlalchemy import Connection, CursorResult, text

from postfleet_workers.mail import queries
from postfleet_workers.mail.admission import limits_at, sessions_at
from postfleet_workers.mail.node import UNREADABLE, NodeSpec, parse_node
from postfleet_workers.mail.sites import TABLE, by_domain, limits_of
from postfleet_workers.throttling.limits import DAY

log = structlog.get_logger(__name__)

ALL = text(queries.NODES)
SLOTS = 240  # of a round; even shares for up to six nodes, and for most numbers beyond
_KNOWN = {domain for site in TABLE for domain in site.domains}


def nodes(connection: Connection, names: Sequence[str] | None = None) -> list[NodeSpec]:
    """The nodes of these names, or all, in order of name; without those whose row makes no sense."""
    found = []
    for row in _rows(connection, names):
        try:
            node = parse_node(row.name, row.spec, paused=row.paused, slowdowns=row.slowdowns)
            per_day(node, "", date.max)
        except UNREADABLE as error:
            log.warning("node_passed_over", node=row.name, error=f"{type(error).__name__}: {error}")
            continue
        found.append(node)
    return sorted(found, key=lambda node: node.name)


def per_day(node: NodeSpec, site: str, today: date) -> int:
    """Mails that the node lets through to the site in a day, about; 0 while it sends nothing there.

    Raises:
        InputError: the node's spec has a number that lets nothing through.
    """
    slowed = node.slowed_at(site)
    if node.paused or slowed.suspended:
        return 0
    own = sessions_at(limits_of(site, node.spec), slowed)
    limits = (*node.limits(today), *limits_at(node.name, site, own, slowed))
    sessions = min(node.max_connections, own.max_connections or node.max_connections)
    return min([int(sessions * DAY), *(int(limit.count * DAY / limit.window_seconds) for limit in limits)])


def rounds(weights: Mapping[str, int]) -> list[str]:
    """Names for a round of `SLOTS` turns, each as often as its weight says, evenly mixed (smooth weighted round robin).

    Whoever has a weight has a turn. Without any weight all have the same: their mail waits, wherever it is.
    """
    if not any(weights.values()):
        weights = dict.fromkeys(weights, 1)
    least = -(-sum(weights.values()) // SLOTS)
    shares = {name: max(weight, least) for name, weight in weights.items() if weight > 0}
    total, ahead = sum(shares.values()), dict.fromkeys(shares, 0)
    found = []
    for _ in range(SLOTS):
        for name, share in shares.items():
            ahead[name] += share
        chosen = max(ahead, key=lambda name: ahead[name])
        ahead[chosen] -= total
        found.append(chosen)
    return found


def choices(nodes: Sequence[NodeSpec], site: str, today: date) -> list[str]:
    """The node of each turn of a round, for mail to a site ('' for any other)."""
    return rounds({node.name: per_day(node, site, today) for node in nodes})


def known_sites(nodes: Sequence[NodeSpec]) -> dict[str, str]:
    """Sites of recipients' domains as far as they limit one of the nodes and are known without DNS."""
    named = frozenset().union(*(node.sites for node in nodes))
    domains = _KNOWN | {name for name in named if "." in name}
    return {domain: site for domain in sorted(domains) if (site := by_domain(domain, named)) in named}


def _rows(connection: Connection, names: Sequence[str] | None) -> CursorResult[Any]:
    return connection.execute(ALL) if names is None else connection.execute(queries.LOAD_NODES, {"keys": list(names)})
