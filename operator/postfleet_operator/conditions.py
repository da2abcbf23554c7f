"""The conditions of a JobPool: one glance says whether it works, moves, scales and sees. Pure.

Ready is about the workers, SignalHealthy about what the operator sees, ScalingActive about whether it acts on it.
`lastTransitionTime` moves only when a status does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from postfleet_operator.cluster import Workload
from postfleet_operator.reasons import ConditionType, DecisionReason, Reason
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Decision, Signal, Source
from postfleet_operator.spec import Mode, PoolSpec


@dataclass(frozen=True, slots=True)
class Problem:
    """Why nothing could be done for a pool: its spec, its Deployment's name, the cluster."""

    reason: Reason
    message: str


@dataclass(frozen=True, slots=True)
class Facts:
    """What conditions are composed of; what is not known (yet) is None. `taken`: queues that an older pool has."""

    generation: int
    spec: PoolSpec | None = None
    workload: Workload | None = None
    signal: Signal | None = None
    decision: Decision | None = None
    problem: Problem | None = None
    shadow: Shadow | None = None
    taken: Mapping[str, str] = field(default_factory=dict)

    @property
    def acted(self) -> bool:
        """Whether the number was changed: what must be told even if there is newer to tell."""
        if self.decision is None or self.spec is None or self.spec.mode in (Mode.RECOMMEND, Mode.EXTERNAL):
            return False
        return self.decision.after != self.decision.before


@dataclass(frozen=True, slots=True)
class _Verdict:
    type: ConditionType
    status: bool | None
    reason: Reason
    message: str


def compose(facts: Facts, previous: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """The conditions to write. A condition that nothing is known about stays as it was.

    Args:
        facts: what is known now.
        previous: the conditions written last.
        now: epoch seconds.
    """
    before = {condition.get("type"): condition for condition in previous}
    verdicts = {verdict.type: verdict for verdict in _verdicts(facts)}
    conditions = []
    for condition_type in ConditionType:
        old, verdict = before.get(condition_type), verdicts.get(condition_type)
        if verdict is not None:
            conditions.append(_condition(verdict, old, facts.generation, now))
        elif old is not None:
            conditions.append(dict(old))
    return conditions


def timestamp(seconds: float) -> str:
    """Epoch seconds as the API writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _condition(verdict: _Verdict, old: Mapping[str, Any] | None, generation: int, now: float) -> dict[str, Any]:
    status = "Unknown" if verdict.status is None else str(verdict.status)
    unchanged = old is not None and old.get("status") == status and old.get("lastTransitionTime")
    return {
        "type": verdict.type.value,
        "status": status,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "lastTransitionTime": old["lastTransitionTime"] if old is not None and unchanged else timestamp(now),
        "observedGeneration": generation,
    }


def _verdicts(facts: Facts) -> list[_Verdict]:
    verdicts = []
    if facts.problem is not None:
        verdicts.append(_Verdict(ConditionType.READY, False, facts.problem.reason, facts.problem.message))
    elif facts.workload is not None:
        verdicts.append(_ready(facts.workload))
    if facts.workload is not None:
        verdicts.append(_progressing(facts.workload))
    if facts.spec is not None:
        verdicts.append(_queues_exclusive(facts.taken))
        verdicts.append(_paused(facts.spec))
    if (active := _scaling_active(facts)) is not None:
        verdicts.append(active)
    if facts.decision is not None and facts.spec is not None:
        verdicts.append(_scaling_limited(facts.decision, facts.spec))
    if facts.signal is not None:
        verdicts.append(_signal_healthy(facts.signal))
    return verdicts


def _ready(workload: Workload) -> _Verdict:
    kind = ConditionType.READY
    if not workload.exists:
        return _Verdict(kind, False, Reason.DEPLOYMENT_MISSING, "there is no Deployment yet")
    if workload.replicas == 0:
        return _Verdict(kind, True, Reason.SCALED_TO_ZERO, "no workers are needed now")
    if workload.ready == 0:
        return _Verdict(kind, False, Reason.NO_WORKER_READY, f"none of {workload.replicas} workers is ready yet")
    return _Verdict(kind, True, Reason.WORKERS_READY, f"{workload.ready} of {workload.replicas} workers are ready")


def _progressing(workload: Workload) -> _Verdict:
    kind, wanted, present = ConditionType.PROGRESSING, workload.replicas, workload.present
    if present < wanted:
        return _Verdict(kind, True, Reason.SCALING_UP, f"{present} of {wanted} workers exist")
    if present > wanted:
        return _Verdict(kind, True, Reason.SCALING_DOWN, f"{present} workers exist, {wanted} are wanted")
    if workload.ready < wanted:
        return _Verdict(kind, True, Reason.WORKERS_STARTING, f"{workload.ready} of {wanted} workers are ready")
    return _Verdict(kind, False, Reason.SETTLED, "the workers are as they should be")


def _paused(spec: PoolSpec) -> _Verdict:
    if spec.paused:
        return _Verdict(ConditionType.PAUSED, True, Reason.PAUSED, "spec.paused is true: the number of workers is kept")
    return _Verdict(ConditionType.PAUSED, False, Reason.NOT_PAUSED, "spec.paused is false")


def _scaling_active(facts: Facts) -> _Verdict | None:
    kind = ConditionType.SCALING_ACTIVE
    if facts.problem is not None:
        return _Verdict(kind, False, facts.problem.reason, facts.problem.message)
    if facts.spec is None:
        return None
    if facts.spec.paused:
        return _Verdict(kind, False, Reason.PAUSED, "the pool is paused")
    match facts.spec.mode:
        case Mode.MANUAL:
            return _Verdict(
                kind, False, Reason.MANUAL, f"mode is Manual: spec.replicas, {facts.spec.replicas}, is kept"
            )
        case Mode.RECOMMEND:
            return _Verdict(kind, False, Reason.RECOMMEND, "mode is Recommend: what is decided is said and not done")
        case Mode.EXTERNAL:
            return _Verdict(kind, False, Reason.EXTERNAL, "mode is External: something else sets the number of workers")
        case Mode.AUTO:
            return _Verdict(kind, True, Reason.AUTO, "the number of workers follows the work")


def _scaling_limited(decision: Decision, spec: PoolSpec) -> _Verdict:
    """What keeps the number from what is needed, the hardest first."""
    kind = ConditionType.SCALING_LIMITED
    if clamp := decision.clamp(DecisionReason.UNSCHEDULABLE):
        return _Verdict(kind, True, Reason.UNSCHEDULABLE, clamp.why)
    if clamp := decision.clamp(DecisionReason.MAX_REPLICAS):
        ceiling = spec.autoscaling.max_replicas
        return _Verdict(kind, True, Reason.MAX_REPLICAS, f"{clamp.before} workers are needed, maxReplicas is {ceiling}")
    if clamp := decision.clamp(DecisionReason.THROTTLE):
        return _Verdict(kind, True, Reason.THROTTLED, clamp.why)
    if (slow := _slow_start(decision, spec)) is not None:
        return _Verdict(kind, True, Reason.SLOW_START, slow)
    if decision.clamped(DecisionReason.MIN_REPLICAS):
        floor = spec.autoscaling.min_replicas
        return _Verdict(kind, True, Reason.MIN_REPLICAS, f"fewer workers would do, minReplicas is {floor}")
    return _Verdict(kind, False, Reason.WITHIN_BOUNDS, "the needed number lies within minReplicas and maxReplicas")


def _slow_start(decision: Decision, spec: PoolSpec) -> str | None:
    """A worker that takes longer to start than a job may wait is too late for whatever wakes it."""
    targets = [latency for queue in spec.queues if (latency := spec.autoscaling.target.latency_for(queue)) is not None]
    startup = decision.startup_seconds
    if not targets or startup is None or startup <= min(targets) or spec.autoscaling.min_replicas > 0:
        return None
    return (
        f"workers take {startup:.0f} s to start and jobs may wait for {min(targets)} s: "
        "from zero the target cannot be kept, set minReplicas to 1 or more"
    )


def _queues_exclusive(taken: Mapping[str, str]) -> _Verdict:
    kind = ConditionType.QUEUES_EXCLUSIVE
    if not taken:
        return _Verdict(kind, True, Reason.OWN_QUEUES, "no older pool has one of the queues")
    return _Verdict(kind, False, Reason.QUEUE_TAKEN, taken_words(taken))


def taken_words(taken: Mapping[str, str]) -> str:
    """Which queues an older pool has, and what that means."""
    whose = ", ".join(f"{queue} (JobPool {pool})" for queue, pool in sorted(taken.items()))
    return (
        f"an older pool has the same queue: {whose}; this one works on it and does not scale on it, name it in one pool"
    )


def _signal_healthy(signal: Signal) -> _Verdict:
    kind = ConditionType.SIGNAL_HEALTHY
    match signal.source:
        case Source.REDIS:
            return _Verdict(kind, True, Reason.FRESH_RECORD, "Redis answers and the relay's records are fresh")
        case Source.POSTGRESQL:
            message = f"{signal.message}; PostgreSQL is counted instead, and the pool only grows"
            return _Verdict(kind, False, Reason.COUNTED_IN_POSTGRESQL, message)
        case Source.NONE:
            return _Verdict(kind, False, Reason.NO_SIGNAL, f"{signal.message}; the number of workers is held")
