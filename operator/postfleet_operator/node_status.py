"""The status of a SendingNode, and whether it is worth writing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postfleet_operator.conditions import Facts
from postfleet_operator.node_conditions import NodeFacts, phase
from postfleet_operator.node_conditions import compose as compose_conditions
from postfleet_operator.rounds import due
from postfleet_operator.spec import Mode, NodeSpec
from postfleet_operator.status import latest

# Numbers and wordings that move all the time are written this often; everything else at once. The API server stores
# every write, and a busy fleet's nodes all move.
NUMBERS_SECONDS = 30.0
NUMBERS = frozenset({"acceptedToday", "remainingToday"})
# Phases of a node that the database has had.
KNOWN = frozenset({"Active", "Paused", "Blocked"})


def compose(facts: NodeFacts, previous: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The whole status, made from what is known and what was written last."""
    conditions = compose_conditions(facts, previous.get("conditions") or [], now)
    status: dict[str, Any] = {**previous, "observedGeneration": facts.generation, "conditions": conditions}
    if facts.spec is None:
        return status
    status["phase"] = phase(facts, known=previous.get("phase") in KNOWN).value
    status |= _numbers(facts, facts.spec)
    if facts.spec.limits.per_day is None:
        for name in ("capToday", "remainingToday"):
            status.pop(name, None)
    if facts.deployment:
        status["workers"] = _workers(facts.deployment, facts.workers, previous.get("workers") or {})
    else:
        status.pop("workers", None)
    return status


def worth_writing(written: Mapping[str, Any], status: Mapping[str, Any], seconds_since: float) -> bool:
    """Whether `status` differs from what was written `seconds_since` ago in a way that should be written now."""
    if written == status:
        return False
    return due(seconds_since, NUMBERS_SECONDS, NUMBERS_SECONDS) or _steady(written) != _steady(status)


def _numbers(facts: NodeFacts, spec: NodeSpec) -> dict[str, int]:
    numbers = {}
    if facts.accepted is not None:
        numbers["acceptedToday"] = facts.accepted
    if (cap := spec.limits.per_day) is not None:
        numbers["capToday"] = cap
        if facts.accepted is not None:
            numbers["remainingToday"] = max(cap - facts.accepted, 0)
    return numbers


def _workers(deployment: str, facts: Facts | None, previous: Mapping[str, Any]) -> dict[str, Any]:
    status: dict[str, Any] = {**previous, "deployment": deployment}
    if facts is None:
        return status
    if facts.workload is not None:
        status |= {
            "desiredReplicas": facts.workload.replicas,
            "replicas": facts.workload.present,
            "readyReplicas": facts.workload.ready,
        }
    if facts.decision is not None:
        status["desiredReplicas"] = facts.decision.after
        status["bottleneck"] = facts.decision.bottleneck.value
        acts = facts.spec is None or facts.spec.mode is not Mode.RECOMMEND
        status["lastDecision"] = latest(previous.get("lastDecision"), facts.decision, acts)
    return status


def _steady(status: Mapping[str, Any]) -> dict[str, Any]:
    """What is written at once when it changes; of a number, that it is known."""
    steady = {key: None if key in NUMBERS else value for key, value in status.items()}
    steady["conditions"] = [
        {key: value for key, value in condition.items() if key != "message"}
        for condition in status.get("conditions") or []
    ]
    if "workers" in status:
        steady["workers"] = {key: value for key, value in status["workers"].items() if key != "bottleneck"}
    return steady
