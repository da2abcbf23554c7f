"""The status of a JobPool, and whether it is worth writing. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postfleet_operator.conditions import Facts, timestamp
from postfleet_operator.conditions import compose as compose_conditions
from postfleet_operator.deployment import selector_text
from postfleet_operator.reasons import ConditionType
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Clamp, Decision, Signal
from postfleet_operator.scaling.wording import number
from postfleet_operator.spec import JobPool, Mode
from postfleet_operator.workerset import WorkerSet

# The API server stores every write, and in a large fleet every pool's numbers move at every look. What turned is
# written at once; another verdict, and numbers that moved far, this often; the rest, and its wording, less often.
NUMBERS_SECONDS = 5.0
SMALL_SECONDS = 30.0
# A number has moved far when it differs by more than this share of the larger and by at least so much.
FAR_SHARE = 0.25
FAR = 10.0
NUMBERS = frozenset(
    {
        "arrivalsPerSecond",
        "backlog",
        "permittedPerSecond",
        "startupSeconds",
        "throughputPerReplica",
    }
)
# Decisions kept in `status.recentDecisions`.
RECENT = 20
# Limits kept in `status.backlog.throttledBy`.
LIMITS = 5


def compose(pool: JobPool, previous: Mapping[str, Any], facts: Facts, now: float) -> dict[str, Any]:
    """The whole status of `pool`, made from what is known; what is not known stays as it was in `previous`."""
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
        acts = pool.spec.mode is not Mode.RECOMMEND
        status["lastDecision"] = latest(previous.get("lastDecision"), facts.decision, acts)
        status["recentDecisions"] = recent(previous.get("recentDecisions") or [], facts.decision, acts)
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
    if seconds_since >= SMALL_SECONDS or _turned(written) != _turned(status):
        return True
    if seconds_since < NUMBERS_SECONDS:
        return False
    return _judged(written) != _judged(status) or any(_far(written.get(key), status.get(key)) for key in NUMBERS)


def backlog(signal: Signal) -> dict[str, Any]:
    """`status.backlog`: jobs, and seconds for `oldestSeconds`; the limits that hold most of `throttled`."""
    most = sorted(signal.throttled_by.items(), key=lambda entry: (-entry[1], entry[0]))[:LIMITS]
    return {
        "total": signal.backlog,
        "ready": signal.ready,
        "inFlight": signal.in_flight,
        "held": signal.held,
        "throttled": signal.throttled,
        "throttledBy": [{"limit": name, "jobs": jobs} for name, jobs in most],
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


def recent(previous: Sequence[Mapping[str, Any]], decision: Decision, acts: bool = True) -> list[Mapping[str, Any]]:
    """`status.recentDecisions`: the newest first; those that changed the number, or that a rule newly kept from it.

    Args:
        previous: those before.
        decision: the present one.
        acts: whether decisions are carried out; otherwise the same one comes again and again.
    """
    if decision.after == decision.before:
        if decision.recommended == decision.after or not decision.clamps or _told(previous, decision):
            return list(previous)
    elif not acts and previous and _same(previous[0], decision):
        return list(previous)
    entry = {
        "time": timestamp(decision.time),
        "from": decision.before,
        "to": decision.after,
        "reason": decision.reason.value,
        "message": decision.message,
    }
    return [entry, *previous][:RECENT]


def latest(previous: Mapping[str, Any] | None, decision: Decision, acts: bool = True) -> Mapping[str, Any]:
    """`status.lastDecision`.

    A pool is looked at every two seconds. What people ask is why it came to be at this number: that stays until another
    number or another reason takes its place.
    """
    if previous is not None and (decision.before == decision.after or not acts) and _same(previous, decision):
        return previous
    return last_decision(decision)


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


def _same(told: Mapping[str, Any], decision: Decision) -> bool:
    return (told.get("reason"), told.get("to")) == (decision.reason.value, decision.after)


def _told(previous: Sequence[Mapping[str, Any]], decision: Decision) -> bool:
    """Whether the history has it since the number changed last: rules that take turns would fill it."""
    for entry in previous:
        if _same(entry, decision):
            return True
        if entry.get("from") != entry.get("to"):
            return False
    return False


def _turned(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is written at once when it changes."""
    turned = {key: status.get(key) for key in ("observedGeneration", "selector", "replicas", "readyReplicas")}
    turned["desiredReplicas"] = status.get("desiredReplicas")
    turned["conditions"] = {
        condition["type"]: (condition["status"], condition["reason"], condition.get("observedGeneration"))
        for condition in status.get("conditions") or []
        if condition["type"] != ConditionType.SCALING_LIMITED
    }
    turned["change"] = next((each for each in status.get("recentDecisions") or [] if each["from"] != each["to"]), None)
    return turned


def _judged(status: Mapping[str, Any]) -> tuple[Any, ...]:
    """Verdicts on the numbers: they may turn at every look."""
    decision: Mapping[str, Any] = status.get("lastDecision") or {}
    limited = [
        (condition["status"], condition["reason"])
        for condition in status.get("conditions") or []
        if condition["type"] == ConditionType.SCALING_LIMITED
    ]
    limits = {entry["limit"] for entry in (status.get("backlog") or {}).get("throttledBy") or []}
    imagined = (status.get("shadow") or {}).get("desiredReplicas")
    return status.get("bottleneck"), decision.get("reason"), decision.get("to"), limited, limits, imagined


def _far(one: object, other: object) -> bool:
    """Whether a number, or one among many, has moved far; one that came or went has."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return any(_far(one.get(key), other.get(key)) for key in one.keys() | other.keys())
    if isinstance(one, list) and isinstance(other, list):
        return False
    if one is None or other is None:
        return one is not other
    before, after = float(str(one)), float(str(other))
    return abs(after - before) >= max(FAR, FAR_SHARE * max(before, after))
