"""Whose turn it is among equals, remembered from tick to tick. Pure.

`allocate` gives a free slot to whoever holds the least of the pipe for its weight. Where more tenants have work than
the pipe has slots, most of them hold nothing, and that rule alone would serve the same few for ever. So each carries a
running total of the bundles it was given, divided by its weight, and among equals the lowest total goes first ("stride
scheduling", as in `worker.shares`). Who comes back with new work starts at the others' level and behind them: it can
neither claim the past nor push in.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable, Iterable
from itertools import count
from typing import Generic, TypeVar

Name = TypeVar("Name", bound=Hashable)
Place = tuple[float, int]  # running total, order of arrival


class Ring(Generic[Name]):
    """Takes of those that compete with one another."""

    def __init__(self) -> None:
        self._places: dict[Name, Place] = {}
        self._level = 0.0
        self._arrivals = count()

    def enter(self, names: Collection[Name]) -> None:
        """These want something now. Whoever is behind the others without wanting anything is forgotten."""
        known = {name: self._places[name] for name in names if name in self._places}
        self._level = max(self._level, min((total for total, _ in known.values()), default=0.0))
        ahead = {name: place for name, place in self._places.items() if place[0] > self._level}
        new = {name: (self._level, next(self._arrivals)) for name in names if name not in self._places}
        self._places = {**ahead, **known, **new}

    def place(self, name: Name) -> Place:
        """Where it stands; the lowest goes first."""
        return self._places[name]

    def took(self, name: Name, share: float) -> None:
        """It was given something."""
        total, arrival = self._places[name]
        self._places[name] = (total + share, arrival)


class Turns:
    """Turns of a queue's tenants, and of each tenant's groups. Groups are named (tenant, batch, route)."""

    def __init__(self) -> None:
        self._tenants: Ring[str] = Ring()
        self._groups: dict[str, Ring[tuple[str, str, str]]] = {}

    def enter(self, keys: Iterable[tuple[str, str, str]]) -> None:
        """These groups can take something now."""
        own = defaultdict(list)
        for key in keys:
            own[key[0]].append(key)
        self._tenants.enter(own.keys())
        self._groups = {tenant: self._groups.get(tenant) or Ring() for tenant in own}
        for tenant, groups in own.items():
            self._groups[tenant].enter(groups)

    def tenant(self, name: str) -> Place:
        """See `Ring.place`."""
        return self._tenants.place(name)

    def group(self, key: tuple[str, str, str]) -> Place:
        """See `Ring.place`."""
        return self._groups[key[0]].place(key)

    def took(self, key: tuple[str, str, str], weight: int) -> None:
        """A group of a tenant of that weight was given a bundle."""
        self._tenants.took(key[0], 1 / weight)
        self._groups[key[0]].took(key, 1)
