"""Give a campaign's mail that its node holds to another of its nodes that has room for it now.

Only mail that was never tried is given away: greylisting lets a mail pass from where it first came. What is moved is no
more than the other node lets through in the next minute, at a mail a second for each of its sessions, besides what it
has to send already. What was put off for less than a minute counts as that: a node that gets nothing through, because
its server is away or refuses the login, must not draw the mail of all others to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import structlog
from sqlalchemy import Connection

from postfleet_workers.mail import reroute
from postfleet_workers.placement import node_of, route, site_of
from postfleet_workers.relay import gate, record, rows
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.permits import PLAN_HORIZON_SECONDS, PLENTY
from postfleet_workers.relay.publisher import Look
from postfleet_workers.throttling.limiter import Limiter
from postfleet_workers.throttling.limits import Limit

log = structlog.get_logger(__name__)
EVERY_SECONDS = 5.0
CAMPAIGN = "campaign:"
MOST_COUNTED = 20_000


@dataclass(frozen=True, slots=True)
class Move:
    """So many jobs of a queue's group are to go by another node."""

    queue: str
    key: Key
    route: str
    jobs: int


def moves(
    held: Mapping[tuple[str, Key], int],
    nodes: Mapping[str, Sequence[str]],
    rules: gate.Rules,
    room: Callable[[Key], int],
) -> list[Move]:
    """What goes where. Pure.

    Args:
        held: jobs that their node holds, by queue and group.
        nodes: a campaign's nodes, by batch.
        rules: what is paused.
        room: how many more a group's node lets through, its site's limits kept; asked once for each route. What the
            node was given already, by whichever route, counts against it.
    """
    found: list[Move] = []
    rooms: dict[str, int] = {}
    given: Counter[str] = Counter()
    for (queue, key), jobs in held.items():
        tenant, batch, old = key
        for name in nodes.get(batch, ()):
            other = (tenant, batch, route(name, site_of(old) if site_of(old) in rules.sites(name) else ""))
            if jobs <= 0 or name == node_of(old) or rules.closed(queue, other):
                continue
            if other[2] not in rooms:
                rooms[other[2]] = room(other)
            take = min(jobs, rooms[other[2]] - given[name], reroute.PAGE)
            if take > 0:
                found.append(Move(queue, key, other[2], take))
                given[name] += take
                jobs -= take
    return found


def even_out(connection: Connection, limiter: Limiter, looks: Sequence[Look], rules: gate.Rules) -> int:
    """Move what can be moved; how many jobs."""
    held: dict[tuple[str, Key], int] = {}
    due: Counter[str] = Counter()
    for look in looks:
        for standing in record.stand(look.queue, look.groups, look.published, rules, look.permits):
            key = standing.group.key
            due[node_of(key[2])] += standing.due
            if key[1].startswith(CAMPAIGN) and rules.held_by_node(key, standing.reason):
                held[look.queue, key] = standing.due - standing.free
    if not held:
        return 0

    def room(key: Key) -> int:
        return permitted(limiter, rules.rates(key[2]), rules.sessions(key[2])) - due[node_of(key[2])]

    moved = 0
    with connection.begin():
        queues = sorted({look.queue for look in looks})
        for waiting, jobs in rows.soon(connection, queues, PLAN_HORIZON_SECONDS, MOST_COUNTED).items():
            due[node_of(waiting)] += jobs
        nodes = reroute.sisters(connection, {key[1] for _, key in held})
        for move in moves(held, nodes, rules, room):
            moved += reroute.move_untried(connection, move.queue, move.key, move.route, move.jobs)
    if moved:
        log.info("mail_given_to_sister_nodes", jobs=moved)
    return moved


def permitted(limiter: Limiter, rates: Sequence[Limit], sessions: Sequence[Limit]) -> int:
    """Mails that all of these limits let through in the next minute."""
    asks = [((limit,), PLENTY) for limit in rates]
    granted = [answer.granted for answer in limiter.peek_many(asks, PLAN_HORIZON_SECONDS)] if asks else []
    return min([*granted, *(int(limit.count * PLAN_HORIZON_SECONDS) for limit in sessions)], default=PLENTY)
