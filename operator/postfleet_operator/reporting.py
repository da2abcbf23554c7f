"""Tells what came of a look at a set of workers: its status when it is worth writing, an Event when something turned.

A pool's shared workers are told of at the pool. Those of a Dedicated node are told of at the node: its Events here, its
status by the keeper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import structlog

from postfleet_operator.cluster import BrokenPool, Cluster, Resource
from postfleet_operator.conditions import Facts, Problem, taken_words, timestamp
from postfleet_operator.reasons import DecisionReason, EventReason, EventType, Reason
from postfleet_operator.scaling.values import Bottleneck, Clamp, Decision
from postfleet_operator.spec import Mode, PoolSpec
from postfleet_operator.status import compose, compose_broken, worth_writing
from postfleet_operator.workerset import WorkerSet

log = structlog.get_logger(__name__)

# What flaps is told this often: a rule that holds a pool back again, a signal that breaks again.
SAME_SECONDS = 600.0
# Jobs wait too long only when they do so for this long, and not any more likewise; so with a bottleneck.
LASTING_SECONDS = 30.0
# Rules that hold a number back in the ordinary course of things: the decision names them, an Event would be noise. A
# broken signal has Events of its own.
ORDINARY = frozenset(
    {
        DecisionReason.TOLERANCE,
        DecisionReason.RUNNING_JOBS,
        DecisionReason.MIN_REPLICAS,
        DecisionReason.SIGNAL_BROKEN,
    }
)
WARNINGS = frozenset({DecisionReason.UNSCHEDULABLE, DecisionReason.MAX_REPLICAS})
BOTTLENECKS: Mapping[Bottleneck, str] = {
    Bottleneck.NONE: "nothing keeps the backlog from shrinking",
    Bottleneck.WORKERS: "more workers are needed than there are",
    Bottleneck.STARTING: "workers that were asked for are not ready",
    Bottleneck.MAX_REPLICAS: "maxReplicas forbids more workers",
    Bottleneck.THROTTLE: "limits or pauses hold the rest, another worker would not help",
}
"""What each means; a broken signal has Events of its own."""


@dataclass(slots=True)
class Report:
    """What was told last about a set of workers.

    Attributes:
        status: the status written last.
        written_at: when.
        healthy: whether the signal was, as it was told.
        problem: why nothing could be done.
        holding: the rules that hold the number back.
        taken: the queues that an older pool has.
        late: whether it was told that jobs wait too long.
        late_since: since when they wait otherwise than was told.
        bottleneck: the one that was told.
        turning: another one, and since when.
        told_at: when each thing that may flap was told of.
    """

    status: Mapping[str, Any] | None = None
    written_at: float = 0.0
    healthy: bool | None = None
    problem: Problem | None = None
    holding: frozenset[DecisionReason] = frozenset()
    taken: Mapping[str, str] = field(default_factory=dict)
    late: bool = False
    late_since: float | None = None
    bottleneck: Bottleneck = Bottleneck.NONE
    turning: tuple[Bottleneck, float] | None = None
    told_at: dict[str, float] = field(default_factory=dict)

    def fresh(self, what: str, now: float) -> bool:
        """Whether `what` was not told lately; then it counts as told now."""
        self.told_at = {told: at for told, at in self.told_at.items() if now < at + SAME_SECONDS}
        if what in self.told_at:
            return False
        self.told_at[what] = now
        return True


def report(cluster: Cluster, workers: WorkerSet, facts: Facts, last: Report, now: float) -> None:
    """Write the pool's status if it is worth it, and the Events that `facts` call for."""
    about: Resource = workers.node or workers.pool
    _tell_problem(cluster, about, facts.problem, last, now)
    if facts.problem is None and facts.decision is not None:
        _tell_decision(cluster, about, facts.decision, workers.spec)
        _tell_held(cluster, about, facts.decision, last, now)
        _tell_latency(cluster, about, facts, last, now)
        _tell_bottleneck(cluster, about, facts, last, now)
    if workers.node is None:
        _tell_taken(cluster, about, facts, last)
    _tell_signal(cluster, about, facts, last, now)
    if workers.node is None:
        pool = workers.pool
        written = pool.status if last.status is None else last.status
        status = compose(pool, written, facts, now)
        if worth_writing(written, status, now - last.written_at):
            cluster.patch_status(pool, status)
            last.status, last.written_at = status, now


def report_broken(cluster: Cluster, pool: BrokenPool, last: Report, now: float) -> None:
    """Say at the pool itself why it cannot be read. Its workers stay as they are."""
    problem = Problem(Reason.INVALID_SPEC, "; ".join(pool.problems))
    _tell_problem(cluster, pool, problem, last, now)
    written = pool.status if last.status is None else last.status
    status = compose_broken(written, Facts(pool.metadata.generation, problem=problem), now)
    if worth_writing(written, status, now - last.written_at):
        cluster.patch_status(pool, status)
        last.status, last.written_at = status, now


def held_back(decision: Decision) -> tuple[Clamp, ...]:
    """The rules that keep the number from what is recommended, the ordinary ones left out."""
    if decision.recommended == decision.after and not decision.clamped(DecisionReason.UNSCHEDULABLE):
        return ()
    return tuple(clamp for clamp in decision.clamps if clamp.name not in ORDINARY and _holds(clamp, decision))


def _holds(clamp: Clamp, decision: Decision) -> bool:
    """Whether a rule moved the number away from what is recommended, towards what it is."""
    up = clamp.after > clamp.before
    if clamp.name is DecisionReason.UNSCHEDULABLE:
        return True
    return up is (decision.after > decision.recommended)


def _tell_problem(cluster: Cluster, about: Resource, problem: Problem | None, last: Report, now: float) -> None:
    if problem is not None and problem != last.problem:
        invalid = problem.reason is Reason.INVALID_SPEC
        reason = EventReason.INVALID_SPEC if invalid else EventReason.APPLY_FAILED
        # A server that is away says so in other words each time.
        words = problem.reason if problem.reason is Reason.CLUSTER_UNAVAILABLE else problem.message
        if last.fresh(words, now):
            log.warning("pool_refused", resource=about.metadata.key, reason=problem.reason, problem=problem.message)
            cluster.event(about, EventType.WARNING, reason, problem.message)
    last.problem = problem


def _tell_decision(cluster: Cluster, about: Resource, decision: Decision, spec: PoolSpec) -> None:
    if spec.mode is Mode.RECOMMEND:
        return
    match decision.before, decision.after:
        case before, after if before == after:
            return
        case 0, _:
            reason = EventReason.SCALED_FROM_ZERO
        case _, 0:
            reason = EventReason.SCALED_TO_ZERO
        case before, after:
            reason = EventReason.SCALED_UP if after > before else EventReason.SCALED_DOWN
    cluster.event(about, EventType.NORMAL, reason, decision.message)


def _tell_held(cluster: Cluster, about: Resource, decision: Decision, last: Report, now: float) -> None:
    """Once when a rule begins to hold the number back, and at most every ten minutes."""
    clamps = held_back(decision)
    for clamp in clamps:
        if clamp.name in last.holding or not last.fresh(clamp.name, now):
            continue
        kind = EventType.WARNING if clamp.name in WARNINGS else EventType.NORMAL
        until = "" if clamp.until is None else f", until {timestamp(clamp.until)}"
        words = f"{clamp.name} holds {clamp.after} instead of {clamp.before}: {clamp.why}{until}"
        cluster.event(about, kind, EventReason.SCALING_HELD, words)
    last.holding = frozenset(clamp.name for clamp in clamps)


def _tell_latency(cluster: Cluster, about: Resource, facts: Facts, last: Report, now: float) -> None:
    if facts.signal is None or facts.spec is None or not facts.signal.healthy:
        return
    target = facts.spec.autoscaling.target
    late = [
        f"{queue.name}: {queue.oldest_seconds:.0f} s instead of {latency}"
        for queue in facts.signal.queues
        if (latency := target.latency_for(queue.name)) is not None and queue.oldest_seconds > latency
    ]
    if bool(late) is last.late:
        last.late_since = None
        return
    last.late_since = now if last.late_since is None else last.late_since
    if now - last.late_since < LASTING_SECONDS or (late and not last.fresh(EventReason.LATENCY_MISSED, now)):
        return
    last.late, last.late_since = bool(late), None
    if late:
        words = f"jobs wait longer than the target: {', '.join(late)}"
        cluster.event(about, EventType.WARNING, EventReason.LATENCY_MISSED, words)
    else:
        cluster.event(about, EventType.NORMAL, EventReason.LATENCY_MET, "no job waits longer than the target any more")


def _tell_bottleneck(cluster: Cluster, about: Resource, facts: Facts, last: Report, now: float) -> None:
    found = Bottleneck.NONE if facts.decision is None else facts.decision.bottleneck
    if found is last.bottleneck or found is Bottleneck.SIGNAL:
        last.turning = None
        return
    if last.turning is None or last.turning[0] is not found:
        last.turning = found, now
    if now - last.turning[1] < LASTING_SECONDS or not last.fresh(f"bottleneck {found}", now):
        return
    words = f"{last.bottleneck} -> {found}: {BOTTLENECKS[found]}"
    if found is Bottleneck.THROTTLE and facts.signal is not None and (by := facts.signal.throttled_by):
        words += f"; most jobs wait for {max(by, key=lambda name: by[name])}"
    last.bottleneck, last.turning = found, None
    cluster.event(about, EventType.NORMAL, EventReason.BOTTLENECK_CHANGED, words)


def _tell_taken(cluster: Cluster, about: Resource, facts: Facts, last: Report) -> None:
    if facts.taken and facts.taken != last.taken:
        cluster.event(about, EventType.WARNING, EventReason.QUEUE_TAKEN, taken_words(facts.taken))
    last.taken = facts.taken


def _tell_signal(cluster: Cluster, about: Resource, facts: Facts, last: Report, now: float) -> None:
    if facts.signal is None:
        return
    healthy = facts.signal.healthy
    if last.healthy is True and not healthy:
        if not last.fresh(EventReason.SIGNAL_LOST, now):
            return
        cluster.event(about, EventType.WARNING, EventReason.SIGNAL_LOST, facts.signal.message)
    elif last.healthy is False and healthy:
        cluster.event(about, EventType.NORMAL, EventReason.SIGNAL_RESTORED, "the signal is healthy again")
    if healthy or last.healthy is not None:  # a signal that was never there was not lost: the condition says so
        last.healthy = healthy
