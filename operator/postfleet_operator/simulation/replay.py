"""Replays a trace through a policy on a virtual fleet, and sums up what came of it. Pure.

The trace is over when its last second is and every job that arrived has been done; what replicas cost is counted up
to then. Jobs that a policy never begins are given up on after a generous while: they have waited until then.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from postfleet_operator.errors import InputError
from postfleet_operator.simulation.fleet import Fleet, Shape, grain
from postfleet_operator.simulation.policy import Policy
from postfleet_operator.simulation.trace import LONGEST_SECONDS, Trace

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


def check_length(scene: Scene) -> None:
    """Hold that the work can be done in a time that is worth replaying.

    Raises:
        InputError: not even `most` replicas, or not the limit, get it done within as long as a trace may be.
    """
    shape, jobs = scene.shape, scene.trace.jobs
    days = LONGEST_SECONDS // 86_400
    rate = shape.permitted_rate
    if rate is not None and jobs / rate > LONGEST_SECONDS:
        raise InputError(
            f"--permitted-rate {rate:g}: {jobs:,} jobs take longer than {days} days at that rate; "
            f"give at least {1.06 * jobs / LONGEST_SECONDS:.2g}, or a shorter trace"  # rounded, and enough all the same
        )
    if _work_seconds(scene) > LONGEST_SECONDS:
        raise InputError(
            f"{jobs:,} jobs of {shape.service_seconds:g} s take {scene.most} replicas of {shape.threads} threads "
            f"longer than {days} days; raise maxReplicas, or give a shorter trace"
        )


def replay(scene: Scene, policy: Policy, progress: Progress | None = None) -> Replay:
    """Replay the scene's trace under `policy`."""
    run = replay_within(scene, policy, math.inf, progress)
    assert run is not None  # noqa: S101 - only what costs too much is given up
    return run


def replay_within(
    scene: Scene, policy: Policy, replica_seconds: float, progress: Progress | None = None
) -> Replay | None:
    """The same; None as soon as it costs more than `replica_seconds`."""
    trace, shape = scene.trace, scene.shape
    size = grain(trace.jobs, shape.threads)
    arrivals = trace.times(size)
    fleet = Fleet(arrivals, trace.jobs, shape, scene.least, size)
    changes = [(0.0, scene.least)]
    needed = _work_seconds(scene) + (0.0 if shape.permitted_rate is None else trace.jobs / shape.permitted_rate)
    over = trace.seconds + PATIENCE_SECONDS + 2 * needed
    likely, looked = max(trace.seconds, needed), 0.0
    while (at := policy.next_at) <= over and not (fleet.drained and at > max(trace.seconds, fleet.last_end)):
        fleet.advance(at)
        wanted = policy.look(fleet)
        if wanted is not None and wanted != fleet.replicas:
            fleet.scale(wanted)
            changes.append((at, wanted))
        if at >= looked + likely / 200:
            looked = at
            if fleet.replica_seconds(at) > replica_seconds:
                return None
            if progress is not None:
                progress(min(at / likely, 1.0))
    ended = max(trace.seconds, fleet.last_end) if fleet.drained else over
    return _sum_up(scene, fleet, ended, tuple(changes))


def _work_seconds(scene: Scene) -> float:
    """How long `most` replicas are busy with everything."""
    return scene.trace.jobs * scene.shape.service_seconds / (scene.most * scene.shape.threads)


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
