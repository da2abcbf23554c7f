"""The status of a JobPool, and whether it is worth writing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postfleet_operator.conditions import Facts, timestamp
from postfleet_operator.conditions import compose as compose_conditions
from postfleet_operator.deployment import selector_text
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Clamp, Decision, Signal
from postfleet_operator.spec import JobPool
from postfleet_operator.workerset import WorkerSet

# Numbers that move all the time are written this often; everything else at once. The API server stores every write.
NUMBERS_SECONDS = 5.0
NUMBERS = frozenset(
    {
        "arrivalsPerSecond",
        "backlog",
        "bottleneck",
        "permittedPerSecond",
        "shadow",
        "startupSeconds",
        "throughputPerReplica",
    }
)
# Decisions kept in `status.recentDecisions`.
RECENT = 20


def compose(pool: JobPool, facts: Facts, now: float) -> dict[str, Any]:
    """The whole status of `pool`, made from what is known; what is not known stays as it was."""
    previous = pool.status
    status: dict[str, Any] = {
        **previous,
        "observedGeneration": facts.generation,
        "selector": selector_text(WorkerSet(pool)),
        "conditions": compose_conditions(facts, previous.get("conditions") or [], now),
    }
    if facts.workload is not None:
        status |= {"replicas": facts.workload.present, "readyReplicas": facts.workload.ready}
    if facts.signal is not None:
        status["backlog"] = backlog(facts.signal)
        status |= rates(facts.signal)
        if facts.signal.permitted_per_second is None:
            status.pop("permittedPerSecond", None)
    if facts.decision is not None:
        status["desiredReplicas"] = facts.decision.after
        status["bottleneck"] = facts.decision.bottleneck.value
        status["lastDecision"] = _latest(previous.get("lastDecision"), facts.decision)
        status["recentDecisions"] = recent(previous.get("recentDecisions") or [], facts.decision)
        status |= _learned(facts.decision)
    if facts.shadow is not None:
        status["shadow"] = shadow(facts.shadow)
    elif facts.spec is not None:
        status.pop("shadow", None)
    return status


def compose_broken(previous: Mapping[str, Any], facts: Facts, now: float) -> dict[str, Any]:
    """The status of a pool whose spec cannot be read: only its conditions move."""
    conditions = compose_conditions(facts, previous.get("conditions") or [], now)
    return {**previous, "observedGeneration": facts.generation, "conditions": conditions}


def worth_writing(written: Mapping[str, Any], status: Mapping[str, Any], seconds_since: float) -> bool:
    """Whether `status` differs from what was written `seconds_since` ago in a way that should be written now."""
    if written == status:
        return False
    if seconds_since >= NUMBERS_SECONDS:
        return True
    return any(written.get(key) != status.get(key) for key in written.keys() | status.keys() if key not in NUMBERS)


def backlog(signal: Signal) -> dict[str, int]:
    """`status.backlog`: jobs, and seconds for `oldestSeconds`."""
    return {
        "total": signal.backlog,
        "ready": signal.ready,
        "inFlight": signal.in_flight,
        "held": signal.held,
        "throttled": signal.throttled,
        "scheduled": signal.scheduled,
        "running": signal.running,
        "oldestSeconds": round(signal.oldest_seconds),
    }


def rates(signal: Signal) -> dict[str, str]:
    """Jobs per second as text: the API knows no decimals that all of its clients read alike."""
    found = {"arrivalsPerSecond": number(signal.arrivals_per_second)}
    if signal.permitted_per_second is not None:
        found["permittedPerSecond"] = number(signal.permitted_per_second)
    return found


def number(value: float) -> str:
    """Three digits are enough for people, and keep noise from being worth a write."""
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def recent(previous: Sequence[Mapping[str, Any]], decision: Decision) -> list[Mapping[str, Any]]:
    """`status.recentDecisions`: the newest first; those that changed the number, or that a rule newly kept from it."""
    if decision.after == decision.before:
        latest = previous[0] if previous else None
        same = latest is not None and (latest.get("reason"), latest.get("to")) == (
            decision.reason.value,
            decision.after,
        )
        if decision.recommended == decision.after or not decision.clamps or same:
            return list(previous)
    entry = {
        "time": timestamp(decision.time),
        "from": decision.before,
        "to": decision.after,
        "reason": decision.reason.value,
        "message": decision.message,
    }
    return [entry, *previous][:RECENT]


def shadow(found: Shadow) -> dict[str, Any]:
    """`status.shadow`."""
    return {
        "desiredReplicas": found.replicas,
        "message": found.decision.message,
        "since": timestamp(found.since),
        "replicaHours": number(found.replica_seconds / 3600),
        "liveReplicaHours": number(found.live_replica_seconds / 3600),
    }


def _learned(decision: Decision) -> dict[str, str]:
    """What survives zero workers and a restart; what is not known (any more) stays as it was."""
    found = {"throughputPerReplica": decision.throughput_per_replica, "startupSeconds": decision.startup_seconds}
    return {key: number(value) for key, value in found.items() if value is not None}


def last_decision(decision: Decision) -> dict[str, Any]:
    """`status.lastDecision`."""
    rendered: dict[str, Any] = {
        "time": timestamp(decision.time),
        "from": decision.before,
        "to": decision.after,
        "reason": decision.reason.value,
        "message": decision.message,
        "inputs": dict(decision.inputs),
        "clamps": [_clamp(clamp) for clamp in decision.clamps],
    }
    if decision.blocked_until is not None:
        rendered["blockedUntil"] = timestamp(decision.blocked_until)
    return rendered


def _clamp(clamp: Clamp) -> dict[str, Any]:
    return {"name": clamp.name.value, "from": clamp.before, "to": clamp.after, "why": clamp.why}


def _latest(previous: Mapping[str, Any] | None, decision: Decision) -> Mapping[str, Any]:
    # A pool is looked at every two seconds. What people ask is why it came to be at this number: that stays until
    # another number or another reason takes its place.
    same = (
        previous is not None
        and decision.before == decision.after == previous.get("to")
        and decision.reason.value == previous.get("reason")
    )
    return previous if previous is not None and same else last_decision(decision)
