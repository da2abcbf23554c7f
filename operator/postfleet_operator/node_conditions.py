"""The conditions of a SendingNode: whether mail leaves through it, and if not, which of its needs is not met. Pure.

`lastTransitionTime` moves only when a status does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from postfleet_operator.conditions import Facts, Problem, timestamp
from postfleet_operator.reachability import Reach
from postfleet_operator.reasons import NodeConditionType, Reason
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import NodeSpec
from postfleet_operator.spec.warmup import WarmupDay


class Phase(StrEnum):
    """A node in one word."""

    PENDING = "Pending"
    """The database does not know it yet."""
    WARMING = "Warming"
    """Ready: its mail goes out, under the cap of its warmup."""
    ACTIVE = "Active"
    """Ready: its mail goes out."""
    PAUSED = "Paused"
    BLOCKED = "Blocked"
    """Something is missing: its conditions say what."""


@dataclass(frozen=True, slots=True)
class NodeFacts:
    """What is known of a node.

    Attributes:
        generation: of its spec.
        spec: None when it cannot be read.
        invalid: why not.
        name: why the database does not take its name.
        mirrored: whether the database has it as it is now.
        database: why it could not be written there.
        credentials: what its login lacks.
        double: which older node it doubles.
        pool: why no pool sends for it.
        unserved: which of its mail its workers do not listen to.
        reach: whether its server answers.
        accepted: mails taken within the last 24 hours; None while that is not known.
        warmup: where its warmup stands today; None without one, and after its end.
        slowdowns: what replies have made it do; None while that is not known.
        workers: of a Dedicated node, what the autoscaler knows of its workers.
        deployment: of a Dedicated node, their Deployment.
    """

    generation: int
    spec: NodeSpec | None = None
    invalid: Problem | None = None
    name: Problem | None = None
    mirrored: bool = False
    database: Problem | None = None
    credentials: Problem | None = None
    double: Problem | None = None
    pool: Problem | None = None
    unserved: Problem | None = None
    reach: Reach | None = None
    accepted: int | None = None
    warmup: WarmupDay | None = None
    slowdowns: tuple[Slowdown, ...] | None = None
    workers: Facts | None = None
    deployment: str = ""

    @property
    def blocked(self) -> Problem | None:
        """The first thing that keeps its mail here, or, last, a part of it."""
        workers = None if self.workers is None else self.workers.problem
        unreachable = None
        if self.reach is not None and self.reach.status is False:
            unreachable = Problem(self.reach.reason, self.reach.message)
        found = (self.invalid, self.name, self.pool, self.credentials, workers, unreachable, self.unserved)
        return next((problem for problem in found if problem is not None), None)


@dataclass(frozen=True, slots=True)
class _Verdict:
    type: NodeConditionType
    status: bool | None
    reason: Reason
    message: str


def phase(facts: NodeFacts, *, known: bool) -> Phase:
    """Where the node stands; `known`: the database has had it before. Warming and Active only where Ready is true."""
    if facts.spec is not None and facts.spec.paused:
        return Phase.PAUSED
    if facts.blocked is not None or (known and facts.database is not None):
        return Phase.BLOCKED
    if not facts.mirrored:
        return Phase.PENDING
    return Phase.ACTIVE if facts.warmup is None else Phase.WARMING


def compose(facts: NodeFacts, previous: Sequence[Mapping[str, Any]], now: float) -> list[dict[str, Any]]:
    """The conditions to write. One that nothing is known about stays as it was; `now` is epoch seconds."""
    before = {condition.get("type"): condition for condition in previous}
    verdicts = {verdict.type: verdict for verdict in _verdicts(facts)}
    conditions = []
    for kind in NodeConditionType:
        old, verdict = before.get(kind), verdicts.get(kind)
        if verdict is not None:
            conditions.append(_condition(verdict, old, facts.generation, now))
        elif old is not None:
            conditions.append(dict(old))
    return conditions


def _condition(verdict: _Verdict, old: Mapping[str, Any] | None, generation: int, now: float) -> dict[str, Any]:
    status = "Unknown" if verdict.status is None else str(verdict.status)
    since = None if old is None or old.get("status") != status else old.get("lastTransitionTime")
    return {
        "type": verdict.type.value,
        "status": status,
        "reason": verdict.reason.value,
        "message": verdict.message,
        "lastTransitionTime": since or timestamp(now),
        "observedGeneration": generation,
    }


def _verdicts(facts: NodeFacts) -> list[_Verdict]:
    if facts.spec is None:
        return [_against(NodeConditionType.READY, facts.invalid)] if facts.invalid is not None else []
    return [
        _ready(facts, facts.spec),
        _mirrored(facts),
        _credentials(facts, facts.spec),
        *([] if facts.reach is None else [_reachable(facts.reach)]),
        _unique(facts),
        _pool(facts, facts.spec),
        _warming(facts, facts.spec),
        _paused(facts.spec),
    ]


def _against(kind: NodeConditionType, problem: Problem) -> _Verdict:
    return _Verdict(kind, False, problem.reason, problem.message)


def _ready(facts: NodeFacts, spec: NodeSpec) -> _Verdict:
    kind = NodeConditionType.READY
    if (problem := facts.blocked) is not None:
        return _against(kind, problem)
    if spec.paused:
        return _Verdict(kind, False, Reason.PAUSED, "spec.paused is true: its mail waits")
    if not facts.mirrored:
        problem = facts.database or Problem(Reason.NOT_MIRRORED_YET, "the workers do not know it yet")
        return _against(kind, problem)
    return _Verdict(kind, True, Reason.SENDING, "its mail goes out")


def _mirrored(facts: NodeFacts) -> _Verdict:
    kind = NodeConditionType.MIRRORED
    if facts.name is not None:
        return _against(kind, facts.name)
    if facts.mirrored:
        return _Verdict(kind, True, Reason.MIRRORED, "relay and workers know it as it is")
    return _against(kind, facts.database or Problem(Reason.NOT_MIRRORED_YET, "it is about to be written"))


def _credentials(facts: NodeFacts, spec: NodeSpec) -> _Verdict:
    kind = NodeConditionType.CREDENTIALS_READY
    if facts.credentials is not None:
        return _against(kind, facts.credentials)
    login, key = spec.smtp.credentials_secret_ref is not None, spec.identity.dkim is not None
    if not login and not key:
        return _Verdict(kind, True, Reason.NO_LOGIN_NEEDED, "it has neither a login nor a DKIM key")
    had = " and ".join(["its login"] * login + ["its DKIM key"] * key)
    return _Verdict(kind, True, Reason.LOGIN_DELIVERED, f"its workers have {had}")


def _reachable(reach: Reach) -> _Verdict:
    return _Verdict(NodeConditionType.REACHABLE, reach.status, reach.reason, reach.message)


def _unique(facts: NodeFacts) -> _Verdict:
    kind = NodeConditionType.IDENTITY_UNIQUE
    if (problem := facts.name or facts.double) is not None:
        return _against(kind, problem)
    return _Verdict(kind, True, Reason.UNIQUE, "no older node has its name, its login or its identity")


def _pool(facts: NodeFacts, spec: NodeSpec) -> _Verdict:
    kind = NodeConditionType.POOL_FOUND
    if (problem := facts.pool or facts.unserved) is not None:
        return _against(kind, problem)
    reference = spec.workers.pool_ref
    if reference is None:
        return _Verdict(kind, True, Reason.ANY_POOL, "every pool of its namespace may send for it")
    return _Verdict(kind, True, Reason.POOL_FOUND, f"JobPool {reference.name} sends for it")


def _warming(facts: NodeFacts, spec: NodeSpec) -> _Verdict:
    kind, plan, today = NodeConditionType.WARMING, spec.warmup, facts.warmup
    if plan is None or not plan.enabled:
        return _Verdict(kind, False, Reason.NO_WARMUP, "it has no spec.warmup that is enabled")
    if today is None:
        words = f"its plan has reached targetPerDay, {plan.target_per_day:,} mails a day"
        return _Verdict(kind, False, Reason.WARMUP_OVER, words)
    if today.day < 1:
        words = f"its plan begins on {plan.start_date}; until then the first day's cap holds, {today.cap:,} mails a day"
        return _Verdict(kind, True, Reason.WARMUP_AHEAD, words)
    return _Verdict(kind, True, Reason.CAP_GROWS, f"day {today.day} of its plan: {today.cap:,} mails in any 24 hours")


def _paused(spec: NodeSpec) -> _Verdict:
    kind = NodeConditionType.PAUSED
    if spec.paused:
        return _Verdict(kind, True, Reason.PAUSED, "spec.paused is true: its mail waits")
    return _Verdict(kind, False, Reason.NOT_PAUSED, "spec.paused is false")
