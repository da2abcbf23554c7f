"""Looks for the cheapest policy that keeps the share of late jobs below a target, by replaying the trace. Pure.

The pool's latency target remains what is promised; what is tried is what the autoscaler aims at, how long it holds on
to replicas, and how many it always keeps. One knob after the other, until a round changes nothing: not the best of all
policies, but one that was replayed, and no single knob improves it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

from postfleet_operator.simulation.policies import makers
from postfleet_operator.simulation.replay import Outcome, Scene, replay_within
from postfleet_operator.spec import PoolSpec
from postfleet_operator.spec.pool import Autoscaling

ROUNDS = 3
WINDOWS = (0, 15, 30, 60, 120, 300, 600)
COOLDOWNS = (0, 30, 60, 300, 900)
# Of the latency target.
AIMS = (1.0, 0.75, 0.5, 0.25)
# Of a backlog target.
BACKLOGS = (4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
LARGEST_BACKLOG = 1_000_000
# Costs that differ by less are the same.
SAME_HOURS = 0.001

Progress = Callable[[int, float, str], None]
"""Told which policy is replayed, how much of it is done, 0 to 1, and what the best one before it does."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What was found.

    Attributes:
        autoscaling: the policy.
        outcome: what came of it.
        reached: whether it keeps the target.
        before: what comes of the pool's own policy.
        replays: how many policies were tried.
    """

    autoscaling: Autoscaling
    outcome: Outcome
    reached: bool
    before: Outcome
    replays: int


class Search:
    """One search: every policy is replayed at most once, and no further than it may still be the best."""

    def __init__(self, spec: PoolSpec, scene: Scene, missed: float, began_at: float, progress: Progress | None) -> None:
        self._spec, self._scene, self._missed = spec, scene, missed
        self._began_at, self._progress = began_at, progress
        self._known: dict[Autoscaling, Outcome | None] = {}
        self._best: Autoscaling = spec.autoscaling

    def run(self) -> Proposal:
        """Try one knob after the other."""
        own = self._spec.autoscaling
        before = self._outcome(own)
        assert before is not None  # noqa: S101 - nothing is dearer than the first
        for _ in range(ROUNDS):
            found = self._best
            for candidates in (aims, windows, floors, cooldowns):
                for candidate in candidates(self._best, own, self._scene.most):
                    if self._rank(candidate) < self._rank(self._best):
                        self._best = candidate
            if self._best == found:
                break
        outcome = self._outcome(self._best)
        assert outcome is not None  # noqa: S101 - what was given up is not the best
        reached = outcome.slo_miss_fraction <= self._missed
        return Proposal(self._best, outcome, reached, before, len(self._known))

    def _rank(self, policy: Autoscaling) -> tuple[float, float, int]:
        """Lower is better: first the target, then the cost, then calm."""
        outcome = self._outcome(policy)
        if outcome is None:
            return math.inf, math.inf, 0
        late = max(outcome.slo_miss_fraction - self._missed, 0.0)
        return late, round(outcome.replica_hours / SAME_HOURS), outcome.scale_changes

    def _outcome(self, policy: Autoscaling) -> Outcome | None:
        """What comes of a policy; None if it costs more than one that keeps the target."""
        if policy not in self._known:
            spec = self._spec.model_copy(update={"autoscaling": policy})
            make = makers(spec, self._scene, self._began_at)["postfleet"]
            scene = replace(self._scene, least=policy.min_replicas)
            run = replay_within(scene, make(), self._worth_seconds(), self._told())
            self._known[policy] = None if run is None else run.outcome
        return self._known[policy]

    def _worth_seconds(self) -> float:
        """The replica-seconds from which on a policy cannot be the best any more."""
        best = self._known.get(self._best)
        if best is None or best.slo_miss_fraction > self._missed:
            return math.inf
        return (best.replica_hours + SAME_HOURS) * 3600

    def _told(self) -> Callable[[float], None] | None:
        if self._progress is None:
            return None
        best, number = self._known.get(self._best), len(self._known) + 1
        words = f"{best.slo_miss_fraction:.2%} missed, {best.replica_hours:.2f} h" if best else ""
        return partial(self._tell, number, words)

    def _tell(self, number: int, words: str, share: float) -> None:
        if self._progress is not None:
            self._progress(number, share, words)


def propose(
    spec: PoolSpec, scene: Scene, missed: float, began_at: float = 0.0, progress: Progress | None = None
) -> Proposal:
    """The cheapest policy found that leaves at most the share `missed` of jobs waiting longer than the scene's SLO."""
    return Search(spec, scene, missed, began_at, progress).run()


def aims(best: Autoscaling, own: Autoscaling, most: int) -> Iterator[Autoscaling]:
    """What the autoscaler aims at: a part of the latency target, or another backlog."""
    del most
    latency, backlog = own.target.latency_seconds, own.target.backlog_per_replica
    if latency is not None:
        for value in sorted({max(round(latency * share), 1) for share in AIMS}, reverse=True):
            yield best.model_copy(update={"target": best.target.model_copy(update={"latency_seconds": value})})
    if backlog is not None:
        for value in sorted({min(max(round(backlog * share), 1), LARGEST_BACKLOG) for share in BACKLOGS}, reverse=True):
            yield best.model_copy(update={"target": best.target.model_copy(update={"backlog_per_replica": value})})


def windows(best: Autoscaling, own: Autoscaling, most: int) -> Iterator[Autoscaling]:
    """How long every look must agree before replicas go."""
    del own, most
    for seconds in WINDOWS:
        rules = best.scale_down.model_copy(update={"stabilization_window_seconds": seconds})
        yield best.model_copy(update={"scale_down": rules})


def floors(best: Autoscaling, own: Autoscaling, most: int) -> Iterator[Autoscaling]:
    """How many replicas there always are: what the pool keeps, and 1, 2, 3, 4, 6, 8, 12 and so on."""
    for replicas in sorted({own.min_replicas, *steps(most)}):
        yield best.model_copy(update={"min_replicas": replicas})


def cooldowns(best: Autoscaling, own: Autoscaling, most: int) -> Iterator[Autoscaling]:
    """How long the last replica waits for work."""
    del own, most
    if best.min_replicas == 0:
        for seconds in COOLDOWNS:
            yield best.model_copy(update={"cooldown_seconds": seconds})


def steps(most: int) -> Iterator[int]:
    """0, 1, 2, 3, 4, 6, 8, 12 … and `most`."""
    yield from (0, most)
    power = 1
    while power <= most:
        yield power
        if power > 1 and power + power // 2 < most:
            yield power + power // 2
        power *= 2
