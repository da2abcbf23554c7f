"""Tells what came of a look at a pool: its status when it is worth writing, an Event when something turned."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from postfleet_operator.cluster import BrokenPool, Cluster
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.reasons import EventReason, EventType, Reason
from postfleet_operator.scaling.values import Decision
from postfleet_operator.spec import JobPool
from postfleet_operator.status import compose, compose_broken, worth_writing
from postfleet_operator.workerset import WorkerSet


@dataclass(slots=True)
class Report:
    """What was told last about a pool."""

    status: Mapping[str, Any] | None = None
    written_at: float = 0.0
    healthy: bool | None = None
    problem: Problem | None = None


def report(cluster: Cluster, workers: WorkerSet, facts: Facts, last: Report, now: float) -> None:
    """Write the pool's status if it is worth it, and the Events that `facts` call for."""
    pool = workers.pool
    _tell_problem(cluster, pool, facts.problem, last)
    if facts.problem is None and facts.decision is not None:
        _tell_decision(cluster, pool, facts.decision)
    if facts.signal is not None:
        healthy = facts.signal.healthy
        if last.healthy is True and not healthy:
            cluster.event(pool, EventType.WARNING, EventReason.SIGNAL_LOST, facts.signal.message)
        elif last.healthy is False and healthy:
            cluster.event(pool, EventType.NORMAL, EventReason.SIGNAL_RESTORED, "the signal is healthy again")
        if healthy or last.healthy is not None:  # a signal that was never there was not lost: the condition says so
            last.healthy = healthy
    if workers.node is None:
        _write(cluster, pool, compose(pool, facts, now), last, now)


def report_broken(cluster: Cluster, pool: BrokenPool, last: Report, now: float) -> None:
    """Say at the pool itself why it cannot be read. Its workers stay as they are."""
    problem = Problem(Reason.INVALID_SPEC, "; ".join(pool.problems))
    _tell_problem(cluster, pool, problem, last)
    facts = Facts(pool.metadata.generation, problem=problem)
    _write(cluster, pool, compose_broken(pool.status, facts, now), last, now)


def _write(cluster: Cluster, pool: JobPool | BrokenPool, status: Mapping[str, Any], last: Report, now: float) -> None:
    written = pool.status if last.status is None else last.status
    if worth_writing(written, status, now - last.written_at):
        cluster.patch_status(pool, status)
        last.status, last.written_at = status, now


def _tell_problem(cluster: Cluster, pool: JobPool | BrokenPool, problem: Problem | None, last: Report) -> None:
    if problem is not None and problem != last.problem:
        invalid = problem.reason is Reason.INVALID_SPEC
        reason = EventReason.INVALID_SPEC if invalid else EventReason.APPLY_FAILED
        cluster.event(pool, EventType.WARNING, reason, problem.message)
    last.problem = problem


def _tell_decision(cluster: Cluster, pool: JobPool, decision: Decision) -> None:
    match decision.before, decision.after:
        case before, after if before == after:
            return
        case 0, _:
            reason = EventReason.SCALED_FROM_ZERO
        case _, 0:
            reason = EventReason.SCALED_TO_ZERO
        case before, after:
            reason = EventReason.SCALED_UP if after > before else EventReason.SCALED_DOWN
    cluster.event(pool, EventType.NORMAL, reason, decision.message)
