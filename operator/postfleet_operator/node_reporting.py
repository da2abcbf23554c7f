"""Tells what came of a look at a node: its status when it is worth writing, an Event when a condition turned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from postfleet_operator.cluster import BrokenNode, Cluster
from postfleet_operator.node_conditions import NodeFacts
from postfleet_operator.node_status import compose, worth_writing
from postfleet_operator.reasons import EventReason, EventType, NodeConditionType, Reason
from postfleet_operator.rounds import due
from postfleet_operator.slowdowns import told
from postfleet_operator.spec import SendingNode

# A condition that flaps is told of this often.
EVENT_SECONDS = 600.0

# What a node is ready after that was nothing about the node.
ELSEWHERE = frozenset({Reason.DATABASE_UNAVAILABLE, Reason.NOT_MIRRORED_YET, Reason.PAUSED})

LOST = {
    NodeConditionType.CREDENTIALS_READY: EventReason.CREDENTIALS_MISSING,
    NodeConditionType.REACHABLE: EventReason.UNREACHABLE,
    NodeConditionType.IDENTITY_UNIQUE: EventReason.IDENTITY_SHARED,
    NodeConditionType.POOL_FOUND: EventReason.POOL_MISSING,
}
# Where the condition's reason calls for another word.
LOST_BY = {
    (NodeConditionType.IDENTITY_UNIQUE, Reason.NAME_TAKEN): EventReason.NAME_TAKEN,
    (NodeConditionType.POOL_FOUND, Reason.QUEUE_UNSERVED): EventReason.QUEUE_UNSERVED,
}


@dataclass(frozen=True, slots=True)
class Turn:
    """An Event that a change of conditions calls for."""

    type: EventType
    reason: EventReason
    message: str


@dataclass(slots=True)
class NodeReport:
    """What was told last about a node."""

    status: Mapping[str, Any] | None = None
    written_at: float = 0.0
    told_at: dict[EventReason, float] = field(default_factory=dict)


def report(cluster: Cluster, node: SendingNode | BrokenNode, facts: NodeFacts, last: NodeReport, now: float) -> str:
    """Write the node's status if it is worth it, and the Events that it calls for; the phase."""
    written = node.status if last.status is None else last.status
    status = compose(facts, written, now)
    events = [
        *turns(written.get("conditions") or [], status["conditions"]),
        *slowed(written.get("slowdowns") or [], status.get("slowdowns") or []),
    ]
    for turn in events:
        told_at = last.told_at.get(turn.reason)
        if told_at is None or due(now, told_at + EVENT_SECONDS, EVENT_SECONDS):
            last.told_at[turn.reason] = now
            cluster.event(node, turn.type, turn.reason, turn.message)
    if worth_writing(written, status, now - last.written_at):
        cluster.patch_status(node, status)
        last.status, last.written_at = status, now
    return str(status.get("phase") or "")


def turns(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Turn]:
    """The Events between two states of conditions. Pure."""
    old = {condition.get("type"): condition for condition in before}
    for condition in after:
        kind = NodeConditionType(condition["type"])
        last = old.get(kind, {})
        same = (last.get("status"), last.get("reason")) == (condition["status"], condition["reason"])
        if same and not (condition["reason"] == Reason.INVALID_SPEC and last.get("message") != condition["message"]):
            continue
        if kind is NodeConditionType.READY:
            if condition["reason"] == Reason.INVALID_SPEC:
                yield Turn(EventType.WARNING, EventReason.INVALID_SPEC, condition["message"])
            elif condition["status"] == "True" and last.get("status") == "False" and last["reason"] not in ELSEWHERE:
                yield Turn(EventType.NORMAL, EventReason.NODE_READY, condition["message"])
        elif condition["status"] == "False" and kind in LOST:
            reason = LOST_BY.get((kind, condition["reason"]), LOST[kind])
            yield Turn(EventType.WARNING, reason, condition["message"])


def slowed(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> Iterator[Turn]:
    """The Event of the slow-downs that have begun between two states, if there are any. Pure."""
    old = {(each["site"], each["action"]) for each in before}
    begun = [each for each in after if (each["site"], each["action"]) not in old]
    if begun:
        words = (
            f"{told(each)} until {each['until']}, by rule {each['rule']}: {each.get('reply', '')}" for each in begun
        )
        yield Turn(EventType.WARNING, EventReason.SLOWED_DOWN, "; ".join(words))
