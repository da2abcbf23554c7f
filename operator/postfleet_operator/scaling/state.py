"""What decisions remember from look to look. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field

from postfleet_operator.scaling.startup import Startups
from postfleet_operator.scaling.throughput import Throughput


@dataclass(frozen=True, slots=True)
class Recommendation:
    """What a look asked for: in all, and for what arrives alone; `at` is epoch seconds."""

    at: float
    workers: int
    sustained: int


@dataclass(frozen=True, slots=True)
class State:
    """What a pool's decisions remember. Lost on a restart, which only makes the next ones more careful.

    Attributes:
        idle_since: epoch seconds since when every look was healthy and found nothing to do; None when the last did not.
        recommendations: of the last looks, for the windows.
        changes: (epoch seconds, by how many) of the last changes, for the policies.
        grown_at: when the pool last grew.
        throughput: what is known of a thread's pace.
        startups: what is known of starting.
    """

    idle_since: float | None = None
    recommendations: tuple[Recommendation, ...] = ()
    changes: tuple[tuple[float, int], ...] = ()
    grown_at: float | None = None
    throughput: Throughput = field(default_factory=Throughput)
    startups: Startups = field(default_factory=Startups)
