"""Which limits a mail of a node counts against. Pure: what the relay foresees and what the worker asks are the same.

Over the node as a whole its rates, and the cap of its warmup; at the recipient's site what the table of sites or the
node's spec say, and what the site's replies have slowed the node down to. Those of the tenant and the campaign are
`throttling.limits`'. All are asked at once, and no permit is taken of one without the others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from postfleet_workers.mail import warmup
from postfleet_workers.mail.replies.slowdown import Kind
from postfleet_workers.mail.sites import SiteLimits
from postfleet_workers.throttling.limits import Limit, node_limits, site_limits, slowed_limit, warmup_limit


@dataclass(frozen=True, slots=True)
class Slowed:
    """What a site's replies make a node do there now.

    Attributes:
        suspended: why nothing goes there, and until when; '' where it does.
        wait_seconds: how long that holds, when it was read.
        per_minute: at most so many mails; None: no tighter limit.
        connections: at most so many sessions; None: no tighter limit.
    """

    suspended: str = ""
    wait_seconds: float = 0.0
    per_minute: int | None = None
    connections: int | None = None


AT_FULL_SPEED = Slowed()


def slowed(rows: Iterable[Mapping[str, Any]]) -> dict[str, Slowed]:
    """By site, from a node's rows of `slowdowns` that hold now, each with its `seconds` left."""
    found: dict[str, Slowed] = {}
    for row in rows:
        before = found.get(row["site"], AT_FULL_SPEED)
        match row["action"]:
            case Kind.SUSPEND:
                why = f"suspended by {row['rule']}"
                found[row["site"]] = replace(before, suspended=why, wait_seconds=float(row["seconds"]))
            case Kind.PER_MINUTE:
                found[row["site"]] = replace(before, per_minute=row["value"])
            case Kind.CONNECTIONS:
                found[row["site"]] = replace(before, connections=row["value"])
    return found


def limits_of_node(node: str, spec: Mapping[str, Any], today: date) -> tuple[Limit, ...]:
    """What all mail of the node counts against; `today` is UTC's.

    Raises:
        InputError: a number that lets nothing through.
    """
    day = warmup.cap(spec.get("warmup"), today)
    return (*node_limits(node, spec), *(() if day is None else (warmup_limit(node, day.cap),)))


def limits_at(node: str, site: str, own: SiteLimits, slowed: Slowed) -> tuple[Limit, ...]:
    """What the node's mail to a site counts against besides.

    Raises:
        InputError: a number that lets nothing through.
    """
    limits = site_limits(node, site, own.per_minute, own.per_hour, own.per_day)
    return limits if slowed.per_minute is None else (*limits, slowed_limit(node, site, slowed.per_minute))


def sessions_at(own: SiteLimits, slowed: Slowed) -> SiteLimits:
    """A site's limits with what is left of its sessions."""
    if slowed.connections is None:
        return own
    return replace(own, max_connections=min(slowed.connections, own.max_connections or slowed.connections))
