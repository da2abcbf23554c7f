"""The relay's record of a queue: what it alone knows, for whoever samples the backlog. Pure.

There is one for every name that Redis has for a queue: its own, and that of each Dedicated node.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postfleet_workers.placement import node_of
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.census import Group, Pipeful
from postfleet_workers.relay.gate import Rules
from postfleet_workers.relay.permits import Permits


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a group stands after a tick.

    Attributes:
        group: as counted before the tick published.
        due: its due jobs that are not on offer; at least so many if the group has `more`.
        free: those of them that no limit or pause holds: another worker would speed them up.
        reason: what holds the rest; empty where nothing does.
        closed: a pause holds all of it.
    """

    group: Group
    due: int
    free: int
    reason: str = ""
    closed: bool = False

    @property
    def balance(self) -> int | None:
        """Its due jobs where all of them are known and free, else None: see `arrivals`."""
        return None if self.reason or self.closed or self.group.more else self.due


def stand(
    queue: str, groups: Sequence[Group], published_now: Mapping[Key, int], rules: Rules, permits: Permits
) -> list[Standing]:
    """Where each group stands.

    Args:
        queue: its name in the ledger.
        groups: the groups as counted before this tick published.
        published_now: rows published by this tick, by group.
        rules: what is paused.
        permits: what the limits let through in the next minute, as of before this tick.
    """
    rest = dict(permits.plan)
    for key, now in published_now.items():
        for limit in rules.limits(key):
            rest[limit.key] -= now
    found = []
    for group in groups:
        due = max(0, group.due - published_now.get(group.key, 0))  # more may have been published than were counted
        if closed := rules.closed(queue, group.key):
            found.append(Standing(group, due, 0, closed, closed=True))
            continue
        limits = rules.limits(group.key)
        free = min([due, *(max(0, rest[limit.key]) for limit in limits)])
        for limit in limits:
            rest[limit.key] -= free
        found.append(Standing(group, due, free, (permits.binding(limits) or "limit") if due > free else ""))
    return found


def compose(
    *,
    standings: Sequence[Standing],
    published_now: Mapping[Key, int],
    pipe: Mapping[Key, Pipeful],
    messages: int,
    rules: Rules,
    permits: Permits,
    waiting: tuple[int, float | None],
    arrivals_per_second: float,
    at: float,
    poll_seconds: float,
) -> dict[str, Any]:
    """The record.

    Args:
        standings: where each group stands.
        published_now: rows published by this tick, by group.
        pipe: what was on offer and executing before this tick, by group.
        messages: messages in Redis after this tick, waiting or in flight.
        rules: which limits a group counts against.
        permits: what the limits let through.
        waiting: rows that wait for their time, and the earliest time.
        arrivals_per_second: λ.
        at: Redis' clock, epoch seconds.
        poll_seconds: how often the record is renewed; older than three of these it is stale.

    Returns:
        `held` due jobs wait only for a free slot: another worker would speed them up. `throttled` ones wait for a
        limit or a pause, named in `throttled_by`: no worker helps. `permitted` is what the slowest limit of each group
        with work lets through, jobs per second; null where some work has no limit.
    """
    throttled: Counter[str] = Counter()
    for standing in standings:
        if standing.due > standing.free:
            throttled[standing.reason] += standing.due - standing.free
    open_ones = [standing for standing in standings if not standing.closed]
    on_offer = sum(s.group.published + published_now.get(s.group.key, 0) for s in standings)
    running = sum(pipeful.running for pipeful in pipe.values())
    return {
        "at": at,
        "poll_seconds": poll_seconds,
        "held": sum(standing.free for standing in standings),
        "throttled": sum(throttled.values()),
        "throttled_by": dict(throttled),
        "scheduled": waiting[0],
        "next_run_at": waiting[1],
        "oldest_seconds": round(max((s.group.oldest_seconds for s in open_ones if not s.reason), default=0.0), 3),
        "running": running,
        "on_offer": on_offer,
        "running_bundles": sum(pipeful.bundles for pipeful in pipe.values()),
        "mean_bundle_size": round(max(1.0, (on_offer + running) / messages), 3) if messages else 1.0,
        "arrivals_per_second": round(arrivals_per_second, 3),
        "permitted": _permitted([s.group for s in open_ones if s.group.due + s.group.published], rules, permits),
    }


def _permitted(groups: Sequence[Group], rules: Rules, permits: Permits) -> dict[str, float] | None:
    rates: dict[str, float] = {}
    at_sites: dict[str, dict[str, float]] = defaultdict(dict)
    for group in groups:
        slowest = permits.slowest(rules.limits(group.key))
        if slowest is None:
            return None
        of_site = slowest[0] in {limit.name for limit in rules.at_site(group.key[2])}
        (at_sites[node_of(group.key[2])] if of_site else rates)[slowest[0]] = round(slowest[1], 4)
    for name, own in at_sites.items():  # all sites together get no more than their node
        node = rules.nodes[name]
        whole = permits.slowest((*node.limits, node.sessions))
        rates |= own if whole is None or sum(own.values()) < whole[1] else {whole[0]: round(whole[1], 4)}
    return rates
