"""Small fleets for the tests, and the same fleet told again in the plainest way."""

from __future__ import annotations

import heapq
from collections.abc import Sequence

from postfleet_operator.simulation.fleet import Fleet, Shape


def fleet(arrivals: Sequence[float], replicas: int = 1, threads: int = 1, **shape: float) -> Fleet:
    """Jobs of one second, replicas that start in five."""
    return Fleet(arrivals, len(arrivals), Shape(threads, **shape), replicas)


def settle(world: Fleet, horizon: float = 1e6) -> list[float]:
    """When each job has begun, once nothing more happens."""
    world.advance(horizon)
    return list(world.starts)


def plainly(arrivals: Sequence[float], servers: int, service_seconds: float) -> list[float]:
    """First come, first served by a fixed number of servers."""
    free, starts = [0.0] * servers, []
    for arrival in arrivals:
        begins = max(arrival, heapq.heappop(free))
        heapq.heappush(free, begins + service_seconds)
        starts.append(begins)
    return starts
