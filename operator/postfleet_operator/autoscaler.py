"""The loop that scales every pool: gather, decide, do only what differs, report. Thin: all judgement is elsewhere.

One thread, one Redis pipeline per tick. A pool that fails is reported and tried again; it never stops the others.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import structlog

from postfleet_operator import reporting
from postfleet_operator.cluster import BrokenPool, Cluster, Workload
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.deployment import RenderSettings, render
from postfleet_operator.errors import ClusterUnavailable, NameTaken, OperatorError
from postfleet_operator.reasons import Reason
from postfleet_operator.scaling.decide import decide, first_state, remember
from postfleet_operator.scaling.values import Decision, Sample, Signal, State
from postfleet_operator.spec import JobPool, PoolSpec

log = structlog.get_logger(__name__)

# How long a new or edited pool may wait to be noticed.
LOOK_SECONDS = 1.0
# A Deployment that nobody is known to have changed is applied again this often, in case somebody has.
RESYNC_SECONDS = 300.0


class Signals(Protocol):
    """Looks at the work of pools; `sampling.Sampler` is the real one."""

    def sample(self, pools: Sequence[JobPool], now: float) -> Mapping[str, Signal]:
        """One signal per pool, by its key. Never raises for a broken Redis or PostgreSQL: that is a signal too."""


Observer = Callable[[JobPool, Sample, Decision], None]


@dataclass(slots=True)
class _Memory:
    """What the loop remembers of a pool."""

    spec: PoolSpec | None = None
    state: State | None = None
    next_at: float = 0.0
    applied: str = ""
    applied_at: float = 0.0
    report: reporting.Report = field(default_factory=reporting.Report)


class Autoscaler:
    """Scales the pools of a cluster.

    Args:
        cluster: where pools live and workers run.
        signals: how their work is seen.
        clock: epoch seconds.
        render_settings: what Deployments are rendered with.
        observer: told of every decision, for metrics and live views.
    """

    def __init__(
        self,
        cluster: Cluster,
        signals: Signals,
        clock: Callable[[], float],
        render_settings: RenderSettings,
        observer: Observer | None = None,
    ) -> None:
        self._cluster = cluster
        self._signals = signals
        self._clock = clock
        self._render_settings = render_settings
        self._observer = observer
        self._memories: dict[str, _Memory] = {}

    def run(self, stop: threading.Event) -> None:
        """Tick until `stop` is set."""
        while not stop.is_set():
            stop.wait(self.tick(self._clock()))

    def tick(self, now: float) -> float:
        """Handle every pool that is due at `now`; returns the seconds until the next look (at most 1)."""
        try:
            pools = self._cluster.pools()
        except ClusterUnavailable as error:
            log.warning("pools_not_listed", error=str(error))
            return LOOK_SECONDS
        self._memories = {pool.key: self._memories.get(pool.key) or _Memory() for pool in pools}
        due = [pool for pool in pools if self._due(pool, now)]
        readable = [pool for pool in due if isinstance(pool, JobPool)]
        signals = self._signals.sample(readable, now) if readable else {}
        for pool in due:
            self._handle(pool, signals, now)
        soonest = min((memory.next_at for memory in self._memories.values()), default=now + LOOK_SECONDS)
        return min(max(soonest - now, 0.05), LOOK_SECONDS)

    def _due(self, pool: JobPool | BrokenPool, now: float) -> bool:
        memory = self._memories[pool.key]
        spec = pool.spec if isinstance(pool, JobPool) else None
        return now >= memory.next_at or spec != memory.spec

    def _handle(self, pool: JobPool | BrokenPool, signals: Mapping[str, Signal], now: float) -> None:
        memory = self._memories[pool.key]
        try:
            if isinstance(pool, BrokenPool):
                memory.spec, memory.next_at = None, now + LOOK_SECONDS
                reporting.report_broken(self._cluster, pool, memory.report, now)
            else:
                memory.spec, memory.next_at = pool.spec, now + pool.spec.autoscaling.polling_interval_seconds
                facts = self._scale(pool, memory, signals[pool.key], now)
                reporting.report(self._cluster, pool, facts, memory.report, now)
        except OperatorError as error:
            log.warning("pool_failed", pool=pool.key, error=str(error))
        except Exception:
            log.exception("pool_crashed", pool=pool.key)

    def _scale(self, pool: JobPool, memory: _Memory, signal: Signal, now: float) -> Facts:
        facts = Facts(pool.metadata.generation, pool.spec, signal=signal)
        try:
            workload = self._ensure(pool, memory, now)
            facts = replace(facts, workload=workload)
            sample = Sample(signal, workload.replicas, workload.ready, workload.starting)
            memory.state = memory.state or first_state(sample.replicas, now)
            decision = decide(sample, pool.spec, memory.state, now)
            memory.state = remember(memory.state, sample, decision)
            facts = replace(facts, decision=decision)
            if decision.after != decision.before:
                self._cluster.scale(pool, decision.after)
                log.info("scaled", pool=pool.key, message=decision.message)
                facts = replace(facts, workload=self._cluster.observe(pool))
        except OperatorError as error:
            return replace(facts, problem=_problem(error))
        if self._observer is not None:
            self._observer(pool, sample, decision)
        return facts

    def _ensure(self, pool: JobPool, memory: _Memory, now: float) -> Workload:
        """The pool's Deployment, applied if it is missing, outdated or due for a check."""
        workload = self._cluster.observe(pool)
        deployment = render(pool, self._render_settings)
        fingerprint = _fingerprint(deployment)
        if workload.exists and memory.applied == fingerprint and now < memory.applied_at + RESYNC_SECONDS:
            return workload
        self._cluster.apply(pool, deployment)
        memory.applied, memory.applied_at = fingerprint, now
        return self._cluster.observe(pool)


def _fingerprint(manifest: Mapping[str, Any]) -> str:
    return json.dumps(manifest, sort_keys=True)


def _problem(error: OperatorError) -> Problem:
    match error:
        case NameTaken():
            return Problem(Reason.NAME_TAKEN, str(error))
        case ClusterUnavailable():
            return Problem(Reason.CLUSTER_UNAVAILABLE, str(error))
        case _:
            return Problem(Reason.REJECTED, str(error))
