"""How many workers a pool should have now. Pure: `decide` makes the decision, `remember` what the next one knows.

The first candidate is what the backlog asks for, ceil(B / backlogPerReplica) with B including running jobs; the
clamps do the rest. The same function runs in production, in the local fleet and in tests.
"""

from __future__ import annotations

import math

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling import clamps
from postfleet_operator.scaling.values import Bottleneck, Clamp, Decision, Sample, Source, State
from postfleet_operator.spec import Mode, PoolSpec


def first_state(replicas: int, now: float) -> State:
    """The state of a pool seen for the first time: what it has counts as needed, so that a restart shrinks nothing."""
    return State(recommendations=((now, replicas),))


def decide(sample: Sample, spec: PoolSpec, state: State, now: float) -> Decision:
    """Decide on the number of workers.

    Args:
        sample: the work and the workers, as just seen.
        spec: what the pool asks for.
        state: what earlier looks left, from `first_state` or `remember`.
        now: epoch seconds.
    """
    look = clamps.Look(sample, spec, state, now)
    needed = math.ceil(sample.signal.backlog / spec.autoscaling.target.backlog_per_replica)
    replicas, applied = needed, []
    for rule in clamps.MANUAL if spec.mode is Mode.MANUAL else clamps.AUTO:
        if clamp := rule(replicas, look):
            replicas = clamp.after
            applied.append(clamp)
    return Decision(
        time=now,
        before=sample.replicas,
        after=replicas,
        needed=needed,
        reason=_reason(look, applied),
        message=_message(look, needed, replicas, applied),
        inputs=_inputs(look),
        clamps=tuple(applied),
        bottleneck=_bottleneck(look, needed, applied),
        blocked_until=max((clamp.until for clamp in applied if clamp.until is not None), default=None),
    )


def remember(state: State, sample: Sample, decision: Decision) -> State:
    """The state after a decision. A broken look proves no idleness and recommends nothing."""
    now, signal = decision.time, sample.signal
    recent = tuple(entry for entry in state.recommendations if entry[0] > now - clamps.STABILIZATION_SECONDS)
    if not signal.healthy:
        return State(idle_since=None, recommendations=recent)
    idle_since = (now if state.idle_since is None else state.idle_since) if signal.backlog == 0 else None
    return State(idle_since, (*recent, (now, decision.needed)))


def _reason(look: clamps.Look, applied: list[Clamp]) -> DecisionReason:
    if applied:
        return applied[-1].name
    if look.spec.mode is Mode.MANUAL:
        return DecisionReason.MANUAL
    if not look.sample.signal.healthy:
        return DecisionReason.SIGNAL_BROKEN
    return DecisionReason.BACKLOG if look.sample.signal.backlog else DecisionReason.IDLE


def _bottleneck(look: clamps.Look, needed: int, applied: list[Clamp]) -> Bottleneck:
    signal, sample = look.sample.signal, look.sample
    if not signal.healthy:
        return Bottleneck.SIGNAL
    if signal.backlog and any(clamp.name is DecisionReason.MAX_REPLICAS for clamp in applied):
        return Bottleneck.MAX_REPLICAS
    if needed > sample.replicas and not any(clamp.name is DecisionReason.ACTIVATION for clamp in applied):
        return Bottleneck.WORKERS
    if signal.backlog and sample.starting:
        return Bottleneck.STARTING
    return Bottleneck.THROTTLE if signal.throttled else Bottleneck.NONE


def _message(look: clamps.Look, needed: int, replicas: int, applied: list[Clamp]) -> str:
    signal, before = look.sample.signal, look.sample.replicas
    move = f"stays at {replicas}" if replicas == before else f"{before} -> {replicas}"
    per_replica = look.spec.autoscaling.target.backlog_per_replica
    match signal.source:
        case Source.NONE:
            work = "the backlog is not known"
        case _ if signal.backlog == 0:
            work = "nothing is due"
        case _:
            work = f"{signal.backlog:,} jobs / {per_replica:,} per worker = {needed}"
    if signal.throttled:
        most = max(signal.throttled_by, key=lambda name: signal.throttled_by[name], default="")
        work += f" ({signal.throttled:,} more wait for a limit{': ' + most if most else ''})"
    return "; ".join(
        [f"{move}: {work}", *(f"{clamp.name} {clamp.before} -> {clamp.after}, {clamp.why}" for clamp in applied)]
    )


def _inputs(look: clamps.Look) -> dict[str, int | str]:
    signal, sample = look.sample.signal, look.sample
    return {
        "source": signal.source.value,
        "backlog": signal.backlog,
        "ready": signal.ready,
        "inFlight": signal.in_flight,
        "held": signal.held,
        "throttled": signal.throttled,
        "scheduled": signal.scheduled,
        "running": signal.running,
        "oldestSeconds": round(signal.oldest_seconds),
        "backlogPerReplica": look.spec.autoscaling.target.backlog_per_replica,
        "replicas": sample.replicas,
        "readyReplicas": sample.ready,
    }
