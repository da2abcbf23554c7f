"""The status of a JobPool, and whether it is worth writing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postfleet_operator.conditions import Facts, timestamp
from postfleet_operator.conditions import compose as compose_conditions
from postfleet_operator.deployment import selector_text
from postfleet_operator.scaling.values import Clamp, Decision, Signal
from postfleet_operator.spec import JobPool
from postfleet_operator.workerset import WorkerSet

# Numbers that move all the time are written this often; everything else at once. The API server stores every write.
NUMBERS_SECONDS = 5.0
NUMBERS = frozenset({"backlog", "bottleneck"})


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
    if facts.decision is not None:
        status["desiredReplicas"] = facts.decision.after
        status["bottleneck"] = facts.decision.bottleneck.value
        status["lastDecision"] = _latest(previous.get("lastDecision"), facts.decision)
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
