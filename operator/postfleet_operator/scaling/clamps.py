"""The rules that a number of workers passes on its way to a decision. Pure; each looks at one thing.

A rule gets the number so far and everything known, and answers with a `Clamp` if it changes the number, else None.
`decide` applies them in the order of the tuples at the end: later rules win, so those that people set (minReplicas,
maxReplicas, paused) come last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling.values import Clamp, Sample, Source, State
from postfleet_operator.spec import PoolSpec

# How long looks must agree before a pool shrinks: it then shrinks to the most that any of them asked for (the HPA's
# downscale stabilization, where it is 300 s because pods are slow to come back and metrics are old; ours are neither).
# It bridges the gaps between the bundles of a campaign's tail.
STABILIZATION_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Look:
    """Everything that a rule may look at. `now` is epoch seconds."""

    sample: Sample
    spec: PoolSpec
    state: State
    now: float


Rule = Callable[[int, Look], Clamp | None]


def activation(replicas: int, look: Look) -> Clamp | None:
    """At zero, a backlog below `activationBacklog` wakes nobody."""
    backlog, threshold = look.sample.signal.backlog, look.spec.autoscaling.activation_backlog
    if look.sample.replicas > 0 or replicas == 0 or backlog >= threshold:
        return None
    return Clamp(
        DecisionReason.ACTIVATION, replicas, 0, f"{backlog:,} jobs are fewer than activationBacklog {threshold:,}"
    )


def running_jobs(replicas: int, look: Look) -> Clamp | None:
    """Jobs that run keep their workers: none is taken away that the running ones need, wherever they are."""
    running, capacity = look.sample.signal.running, look.spec.worker.capacity
    floor = min(look.sample.replicas, math.ceil(running / capacity))
    if replicas >= floor:
        return None
    return Clamp(
        DecisionReason.RUNNING_JOBS,
        replicas,
        floor,
        f"{running:,} running jobs fill {floor} workers of {capacity} threads",
    )


def stabilization(replicas: int, look: Look) -> Clamp | None:
    """Shrink only as far as every look of the last `STABILIZATION_SECONDS` agrees."""
    since = look.now - STABILIZATION_SECONDS
    recent = [(at, needed) for at, needed in look.state.recommendations if at > since]
    at, highest = max(recent, key=lambda entry: (entry[1], entry[0]), default=(look.now, 0))
    held = min(look.sample.replicas, highest)
    if replicas >= held:
        return None
    return Clamp(
        DecisionReason.STABILIZATION,
        replicas,
        held,
        f"{highest} were needed {look.now - at:.0f} s ago; shrinking waits {STABILIZATION_SECONDS:.0f} s",
        until=at + STABILIZATION_SECONDS,
    )


def cooldown(replicas: int, look: Look) -> Clamp | None:
    """The last worker stays until there was nothing to do for `cooldownSeconds`."""
    if replicas > 0 or look.sample.replicas == 0:
        return None
    since = look.now if look.state.idle_since is None else look.state.idle_since
    until = since + look.spec.autoscaling.cooldown_seconds
    if look.now >= until:
        return None
    return Clamp(
        DecisionReason.COOLDOWN,
        replicas,
        1,
        f"idle for {look.now - since:.0f} of cooldownSeconds {look.spec.autoscaling.cooldown_seconds}",
        until=until,
    )


def signal_broken(replicas: int, look: Look) -> Clamp | None:
    """A broken signal never shrinks a pool; it may grow on what PostgreSQL counts."""
    signal, current = look.sample.signal, look.sample.replicas
    if signal.healthy:
        return None
    held = max(replicas, current) if signal.source is Source.POSTGRESQL else current
    if held == replicas:
        return None
    return Clamp(DecisionReason.SIGNAL_BROKEN, replicas, held, f"the signal is broken: {signal.message}")


def min_replicas(replicas: int, look: Look) -> Clamp | None:
    """Never fewer than `minReplicas`."""
    floor = look.spec.autoscaling.min_replicas
    return Clamp(DecisionReason.MIN_REPLICAS, replicas, floor, f"minReplicas is {floor}") if replicas < floor else None


def max_replicas(replicas: int, look: Look) -> Clamp | None:
    """Never more than `maxReplicas`; somebody wrote that number, so it holds on a broken signal too."""
    ceiling = look.spec.autoscaling.max_replicas
    return (
        Clamp(DecisionReason.MAX_REPLICAS, replicas, ceiling, f"maxReplicas is {ceiling}")
        if replicas > ceiling
        else None
    )


def manual(replicas: int, look: Look) -> Clamp | None:
    """In mode Manual, people (or an HPA through /scale) say how many."""
    wanted = look.spec.replicas
    return (
        Clamp(DecisionReason.MANUAL, replicas, wanted, f"mode is Manual, replicas is {wanted}")
        if replicas != wanted
        else None
    )


def paused(replicas: int, look: Look) -> Clamp | None:
    """A paused pool keeps the workers that it has."""
    current = look.sample.replicas
    if not look.spec.paused or replicas == current:
        return None
    return Clamp(DecisionReason.PAUSED, replicas, current, "the pool is paused")


AUTO: tuple[Rule, ...] = (
    activation,
    running_jobs,
    stabilization,
    cooldown,
    signal_broken,
    min_replicas,
    max_replicas,
    paused,
)
MANUAL: tuple[Rule, ...] = (manual, paused)
