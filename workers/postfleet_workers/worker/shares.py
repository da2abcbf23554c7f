"""Which queue's message a free thread takes next. Pure.

The first queue is strict. The others share by weight: each carries a running total of what it was given, divided by
its weight ("stride scheduling", Waldspurger 1995); the lowest total with work is next. A queue that was idle starts at
the others' level, so it cannot claim the past.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from postfleet_workers.placement import SHARED, logical

DEFAULT_WEIGHT = 2


class Shares:
    """Picks among queues in the order given: the first is strict."""

    def __init__(self, queues: Sequence[str], weights: Mapping[str, int], place: str = SHARED) -> None:
        """Queues go by their names in Redis, `weights` by those in the ledger; `place`: whose workers these are."""
        self._first = queues[0]
        self._strides = {queue: 1.0 / weights.get(logical(queue, place), DEFAULT_WEIGHT) for queue in queues[1:]}
        self._passes = dict.fromkeys(self._strides, 0.0)
        self._level = 0.0

    def pick(self, waiting: Collection[str], *, reserved: bool) -> str | None:
        """The queue to serve, among those with work; a reserved thread serves the first queue alone."""
        if self._first in waiting:
            return self._first
        if reserved:
            return None
        ready = [queue for queue in self._passes if queue in waiting]
        if not ready:
            return None
        for queue in ready:
            self._passes[queue] = max(self._passes[queue], self._level)
        chosen = min(ready, key=lambda queue: self._passes[queue])
        self._level = self._passes[chosen]
        self._passes[chosen] += self._strides[chosen]
        return chosen


def reserved_threads(threads: int, fraction: float, queues: int) -> int:
    """How many threads serve only the first queue: `fraction` of them, at least one, but never the only one."""
    if queues < 2 or threads < 2 or fraction <= 0:
        return 0
    return max(1, min(threads - 1, int(threads * fraction)))


def parse_weights(value: str) -> dict[str, int]:
    """Read `name=weight,name=weight`.

    Raises:
        ValueError: a part is not of that form or a weight is below 1.
    """
    weights = {}
    for part in filter(None, (part.strip() for part in value.split(","))):
        name, equals, weight = part.partition("=")
        if not equals or not weight.strip().isdigit() or int(weight) < 1:
            raise ValueError(f"{part!r} is not name=weight with a weight of at least 1")
        weights[name.strip()] = int(weight)
    return weights
