"""The status of a SendingNode, and whether it is worth writing. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from postfleet_operator.conditions import Facts, timestamp
from postfleet_operator.node_conditions import NodeFacts, phase
from postfleet_operator.node_conditions import compose as compose_conditions
from postfleet_operator.rounds import due
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import Mode, NodeSpec
from postfleet_operator.status import latest

# Numbers and wordings that move all the time are written this often; everything else at once. The API server stores
# every write, and a busy fleet's nodes all move.
NUMBERS_SECONDS = 30.0
NUMBERS = frozenset({"acceptedToday", "remainingToday"})
# Phases of a node that the database has had.
KNOWN = frozenset({"Warming", "Active", "Paused", "Blocked"})


def compose(facts: NodeFacts, previous: Mapping[str, Any], now: float) -> dict[str, Any]:
    """The whole status, made from what is known and what was written last."""
    conditions = compose_conditions(facts, previous.get("conditions") or [], now)
    status: dict[str, Any] = {**previous, "observedGeneration": facts.generation, "conditions": conditions}
    if facts.spec is None:
        return status
    status["phase"] = phase(facts, known=previous.get("phase") in KNOWN).value
    status |= _numbers(facts, facts.spec)
    status["slowdowns"] = _slowdowns(facts.slowdowns, previous.get("slowdowns") or [], now)
    for name in _absent(facts, facts.spec, status):
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
    if facts.warmup is not None:
        numbers["warmupDay"] = facts.warmup.day
    if (cap := _cap(facts, spec)) is not None:
        numbers["capToday"] = cap
        if facts.accepted is not None:
            numbers["remainingToday"] = max(cap - facts.accepted, 0)
    return numbers


def _cap(facts: NodeFacts, spec: NodeSpec) -> int | None:
    """Most mails in any 24 hours: the node's limit, or what its warmup allows today if that is less."""
    caps = [spec.limits.per_day, None if facts.warmup is None else facts.warmup.cap]
    return min((cap for cap in caps if cap is not None), default=None)


def _absent(facts: NodeFacts, spec: NodeSpec, status: Mapping[str, Any]) -> Iterator[str]:
    """Fields that there is nothing to say in."""
    if facts.warmup is None:
        yield "warmupDay"
    if _cap(facts, spec) is None:
        yield from ("capToday", "remainingToday")
    if not status["slowdowns"]:
        yield "slowdowns"


def _slowdowns(
    known: Sequence[Slowdown] | None, previous: Sequence[Mapping[str, Any]], now: float
) -> list[Mapping[str, Any]]:
    """Those in force; while the database does not tell, what was known of them."""
    if known is None:
        return [each for each in previous if str(each.get("until")) > timestamp(now)]
    return [
        {
            "site": each.site,
            "action": each.action,
            **({} if each.value is None else {"value": each.value}),
            "until": timestamp(each.until),
            "rule": each.rule,
            "reply": each.reply,
        }
        for each in known
        if each.until > now
    ]


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
    if "slowdowns" in status:
        steady["slowdowns"] = [(each["site"], each["action"], each.get("value")) for each in status["slowdowns"]]
    if "workers" in status:
        steady["workers"] = {key: value for key, value in status["workers"].items() if key != "bottleneck"}
    return steady
