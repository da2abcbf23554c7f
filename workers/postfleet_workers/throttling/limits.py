"""Which limits apply to a mail: values, read from a sending node's spec and a tenant's row. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postfleet_workers.errors import InputError

# The spec's field, the limit's word in names and keys, the window in seconds.
NODE_WINDOWS = (("perMinute", "minute", 60.0), ("perHour", "hour", 3600.0), ("perDay", "day", 86_400.0))


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `count` in any window of `window_seconds`.

    `key` is its name in Redis: limits with the same key are the same limit. `name` is for people:
    `node acme-1 per_minute`.
    """

    key: str
    name: str
    count: int
    window_seconds: float

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


def tenant_limits(tenant: str, per_minute: int | None, per_day: int | None) -> tuple[Limit, ...]:
    """The limits of a tenant's row; None means none."""
    asked = (("minute", per_minute, 60.0), ("day", per_day, 86_400.0))
    return tuple(_limit("tenant", tenant, word, count, s) for word, count, s in asked if count is not None)


def _limit(scope: str, name: str, word: str, count: int, seconds: float) -> Limit:
    return Limit(f"postfleet:limit:{scope}:{name}:{word}", f"{scope} {name} per_{word}", count, seconds)
