"""Replays a trace through a policy on a virtual fleet, and sums up what came of it. Pure.

The trace is over when its last second is and every job that arrived has been done; what replicas cost is counted up
to then. Jobs that a policy never begins are given up on after a generous while: they have waited until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from postfleet_operator.simulation.fleet import Fleet, Shape, grain
from postfleet_operator.simulation.policy import Policy
from postfleet_operator.simulation.trace import Trace

# A policy has twice the time that `most` replicas would need for everything, and this much, after the trace.
PATIENCE_SECONDS = 3600.0
# What floating point may add to a wait.
EPSILON = 1e-6

Progress = Callable[[float], None]
"""Told how much of a replay is done, 0 to 1."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What all policies have in common.

    Attributes:
        trace: what arrives.
        shape: the fleet.
        slo_seconds: how long a job may wait.
        least: minReplicas; so many are there at the beginning.
        most: maxReplicas.
    """

    trace: Trace
    shape: Shape
    slo_seconds: float
    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it: the numbers of the JSON output.

    Attributes:
        wait_p50_seconds: how long jobs waited for a replica, not for a limit (see `limit`); nearest rank, of all jobs.
        wait_p95_seconds: likewise.
        wait_p99_seconds: likewise.
        slo_miss_fraction: of all jobs, how many waited longer than the SLO.
        replica_hours: of all replicas, from being asked for to their end.
        scale_changes: how often another number was asked for.
        max_replicas: the most that was asked for.
    """

    wait_p50_seconds: float
    wait_p95_seconds: float
    wait_p99_seconds: float
    slo_miss_fraction: float
    replica_hours: float
    scale_changes: int
    max_replicas: int

    def as_json(self) -> dict[str, float | int]:
        """With few enough digits to read."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


@dataclass(frozen=True)
class Replay:
    """A policy's whole run.

    Attributes:
        outcome: the sums.
        seconds: when it was over.
        arrivals: when jobs arrived; each entry stands for `size` jobs, here and below.
        waits: how long each waited for a replica.
        starts: when each began; fewer than arrivals if some never did.
        replicas: (seconds, replicas asked for) at every change.
        size: see above.
    """

    outcome: Outcome
    seconds: float
    arrivals: Sequence[float]
    waits: Sequence[float]
    starts: Sequence[float]
    replicas: tuple[tuple[float, int], ...]
    size: int


def replay(scene: Scene, policy: Policy, progress: Progress | None = None) -> Replay:
    """Replay the scene's trace under `policy`."""
    trace, shape = scene.trace, scene.shape
    size = grain(trace.jobs, shape.threads)
    arrivals = trace.times(size)
    fleet = Fleet(arrivals, trace.jobs, shape, scene.least, size)
    changes = [(0.0, scene.least)]
    over = trace.seconds + PATIENCE_SECONDS + 2 * trace.jobs * shape.service_seconds / (scene.most * shape.threads)
    if shape.permitted_rate is not None:
        over += 2 * trace.jobs / shape.permitted_rate
    told = 0.0
    while (at := policy.next_at) <= over and not (fleet.drained and at > max(trace.seconds, fleet.last_end)):
        fleet.advance(at)
        wanted = policy.look(fleet)
        if wanted is not None and wanted != fleet.replicas:
            fleet.scale(wanted)
            changes.append((at, wanted))
        if progress is not None and at >= told + trace.seconds / 200:
            told = at
            progress(min(at / trace.seconds, 1.0))
    ended = max(trace.seconds, fleet.last_end) if fleet.drained else over
    return _sum_up(scene, fleet, ended, tuple(changes))


def _sum_up(scene: Scene, fleet: Fleet, ended: float, changes: tuple[tuple[float, int], ...]) -> Replay:
    waits = fleet.waits(ended)
    ordered = sorted(waits)
    late = sum(wait > scene.slo_seconds + EPSILON for wait in waits)
    outcome = Outcome(
        wait_p50_seconds=percentile(ordered, 0.50),
        wait_p95_seconds=percentile(ordered, 0.95),
        wait_p99_seconds=percentile(ordered, 0.99),
        slo_miss_fraction=late / len(waits),
        replica_hours=fleet.replica_seconds(ended) / 3600,
        scale_changes=len(changes) - 1,
        max_replicas=max(replicas for _, replicas in changes),
    )
    return Replay(
        outcome,
        ended,
        fleet.arrivals,
        waits,
        fleet.starts,
        changes,
        fleet.size,
    )


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """Nearest rank."""
    return ordered[max(math.ceil(fraction * len(ordered)), 1) - 1]
