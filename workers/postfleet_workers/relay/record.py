"""The relay's record of a queue: what it alone knows, for whoever samples the backlog. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from postfleet_workers.relay.census import Group
from postfleet_workers.relay.gate import Permits, Rules


def compose(
    *,
    queue: str,
    groups: Sequence[Group],
    published_now: dict[tuple[str, str, str], int],
    running: int,
    messages: int,
    rules: Rules,
    permits: Permits,
    waiting: tuple[int, float | None],
    at: float,
    poll_seconds: float,
) -> dict[str, Any]:
    """The record.

    Args:
        queue: its name.
        groups: the queue's groups as counted before this tick published.
        published_now: rows published by this tick, by group.
        running: jobs executing.
        messages: messages in Redis after this tick, waiting or in flight.
        rules: what is paused.
        permits: what the limits let through in the next minute.
        waiting: rows that wait for their time, and the earliest time.
        at: Redis' clock, epoch seconds.
        poll_seconds: how often the record is renewed; older than three of these it is stale.

    Returns:
        `held` due jobs wait only for a free slot: another worker would speed them up. `throttled` ones wait for a
        limit or a pause, named in `throttled_by`: no worker helps.
    """
    rest = dict(permits.plan)
    for key, now in published_now.items():  # `permits` are as of before this tick
        for limit in rules.limits(key):
            rest[limit.key] -= now
    held = 0
    oldest = 0.0
    throttled: Counter[str] = Counter()
    on_offer = 0
    for group in groups:
        now = published_now.get(group.key, 0)
        on_offer += group.published + now
        due = max(0, group.due - now)  # more may have been published than were counted
        if reason := rules.closed(queue, group.key):
            if due:
                throttled[reason] += due
            continue
        limits = rules.limits(group.key)
        free = min([due, *(max(0, rest[limit.key]) for limit in limits)])
        for limit in limits:
            rest[limit.key] -= free
        held += free
        if due > free:
            throttled[permits.binding(limits) or "limit"] += due - free
        else:
            oldest = max(oldest, group.oldest_seconds)
    return {
        "at": at,
        "poll_seconds": poll_seconds,
        "held": held,
        "throttled": sum(throttled.values()),
        "throttled_by": dict(throttled),
        "on_offer": on_offer,
        "scheduled": waiting[0],
        "next_run_at": waiting[1],
        "oldest_seconds": round(oldest, 3),
        "running": running,
        "mean_bundle_size": round(max(1.0, (on_offer + running) / messages), 3) if messages else 1.0,
    }
