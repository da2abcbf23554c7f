"""Scenes for the tests."""

from __future__ import annotations

from collections.abc import Mapping

from postfleet_operator.simulation.fleet import Shape
from postfleet_operator.simulation.replay import Scene
from postfleet_operator.simulation.trace import Trace


def scene(
    arrivals: Mapping[int, int],
    *,
    seconds: int = 60,
    least: int = 0,
    most: int = 20,
    threads: int = 1,
    slo_seconds: float = 5.0,
    service_seconds: float = 1.0,
    startup_seconds: float = 5.0,
    permitted_rate: float | None = None,
) -> Scene:
    """Arrivals by second on a fleet of replicas with one thread."""
    trace = Trace("test", seconds, tuple(sorted(({seconds - 1: 0} | dict(arrivals)).items())))
    return Scene(trace, Shape(threads, service_seconds, startup_seconds, permitted_rate), slo_seconds, least, most)


def constant(per_second: int, seconds: int, **fields: float) -> Scene:
    """The same number of jobs in every second."""
    return scene(dict.fromkeys(range(seconds), per_second), seconds=seconds, **fields)  # type: ignore[arg-type]
