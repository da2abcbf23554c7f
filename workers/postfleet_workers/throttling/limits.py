"""Limits of mail: values, read from a sending node's spec and from the rows of tenants and campaigns. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postfleet_workers.errors import InputError

MINUTE, HOUR, DAY = 60.0, 3600.0, 86_400.0
# The spec's field, the limit's word in names and keys, the window in seconds.
NODE_WINDOWS = (("perMinute", "minute", MINUTE), ("perHour", "hour", HOUR), ("perDay", "day", DAY))


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` in any window of `window_seconds`.

    `key` is its name in Redis: limits with the same key are the same limit. `name` is for people:
    `node acme-1 per_minute`. A `reserved` one counts what was accepted: a permit is taken before the mail is sent and
    given back when the mail was not accepted, as if it had never been taken.
    """

    key: str
    name: str
    count: int
    window_seconds: float
    reserved: bool = False

    def __post_init__(self) -> None:
        if self.count < 1 or self.window_seconds <= 0:
            raise InputError(f"{self.name}: {self.count} per {self.window_seconds:g} s is no limit; pause it instead")


def node_limits(node: str, spec: Mapping[str, Any]) -> tuple[Limit, ...]:
    """The limits of a sending node, from its spec as the mirror holds it (camelCase); absent and null mean none."""
    limits = spec.get("limits") or {}
    return tuple(
        _limit("node", node, word, int(limits[field]), seconds)
        for field, word, seconds in NODE_WINDOWS
        if limits.get(field) is not None
    )


def site_limits(
    node: str, site: str, per_minute: int | None, per_hour: int | None, per_day: int | None
) -> tuple[Limit, ...]:
    """What a node may send to a site; None means no limit."""
    asked = (("minute", per_minute, MINUTE), ("hour", per_hour, HOUR), ("day", per_day, DAY))
    return tuple(
        Limit(f"postfleet:limit:site:{node}|{site}:{word}", f"node {node} at {site} per_{word}", count, seconds)
        for word, count, seconds in asked
        if count is not None
    )


def slowed_limit(node: str, site: str, per_minute: int) -> Limit:
    """What a site's replies have slowed a node down to there."""
    name = f"node {node} at {site or 'its server'} slowed per_minute"
    return Limit(f"postfleet:limit:slowed:{node}|{site}:minute", name, per_minute, MINUTE)


def warmup_limit(node: str, cap: int) -> Limit:
    """What may be accepted from a node in a day of its warmup; spread over the day, as every limit."""
    return Limit(f"postfleet:limit:warmup:{node}:day", f"node {node} warmup", cap, DAY, reserved=True)


def tenant_limits(tenant: str, per_minute: int | None, per_day: int | None) -> tuple[Limit, ...]:
    """The limits of a tenant's row; None means none."""
    asked = (("minute", per_minute, MINUTE), ("day", per_day, DAY))
    return tuple(_limit("tenant", tenant, word, count, s) for word, count, s in asked if count is not None)


def campaign_limits(campaign: int, per_minute: int | None) -> tuple[Limit, ...]:
    """The limit of a campaign's own, over all its nodes; None means none."""
    return () if per_minute is None else (_limit("campaign", str(campaign), "minute", per_minute, MINUTE),)


def _limit(scope: str, name: str, word: str, count: int, seconds: float) -> Limit:
    return Limit(f"postfleet:limit:{scope}:{name}:{word}", f"{scope} {name} per_{word}", count, seconds)
