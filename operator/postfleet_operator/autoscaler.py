"""The loop that scales every set of workers: gather, decide, do only what differs, report.

Thin: all judgement is elsewhere. One Redis pipeline per tick, then some pools at a time. A pool that fails is reported
and tried again; it never stops the others.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Protocol

import structlog

from postfleet_operator import reporting, rounds
from postfleet_operator.cluster import BrokenPool, Cluster, Workload
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.deployment import RenderSettings, render
from postfleet_operator.errands import Errands
from postfleet_operator.errors import ClusterUnavailable, NameTaken, NotLeader, OperatorError
from postfleet_operator.reasons import Reason
from postfleet_operator.recall import recalled
from postfleet_operator.scaling import shadow
from postfleet_operator.scaling.decide import decide, remember
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Decision, PodTimes, Sample, Signal, Work
from postfleet_operator.spec import JobPool, Mode, SendingNode
from postfleet_operator.workerset import WorkerSet, worker_sets

log = structlog.get_logger(__name__)

# How long a new or edited pool may wait to be noticed.
LOOK_SECONDS = 1.0
# A Deployment that nobody is known to have changed is applied again this often, in case somebody has.
RESYNC_SECONDS = 300.0
# No more of these in one tick: with hundreds of pools they fall due together, and scaling must not wait for them.
RESYNCS_PER_TICK = 5


class Signals(Protocol):
    """Looks at the work of worker sets; `sampling.Sampler` is the real one."""

    def sample(self, sets: Sequence[WorkerSet], now: float) -> Mapping[str, Signal]:
        """One signal per set, by its key. Never raises for a broken Redis or PostgreSQL: that is a signal too."""

    def in_flight(self, workers: WorkerSet) -> Mapping[str, int]:
        """Messages that each worker has fetched and not finished, by replica, as far as is known."""


class Progresses(Protocol):
    """Tells what workers get done; `progress.Progress` is the real one."""

    def look(self, now: float) -> Mapping[str, Work]:
        """What was done since the last look, by worker set key; only what has news. Never raises."""


Observer = Callable[[WorkerSet, Sample, Decision, shadow.Shadow | None], None]


@dataclass(slots=True)
class _Memory:
    """What the loop remembers of a set of workers."""

    workers: WorkerSet | None = None
    state: State | None = None
    shadow: shadow.Shadow | None = None
    work: Work | None = None
    next_at: float = 0.0
    changed: bool = True
    applied: Mapping[str, Any] | None = None
    applied_at: float = 0.0
    released: bool = False
    facts: Facts | None = None
    report: reporting.Report = field(default_factory=reporting.Report)


class Autoscaler:
    """Scales the worker sets of a cluster.

    Args:
        cluster: where pools live and workers run.
        signals: how their work is seen.
        progress: how their throughput is learned.
        clock: epoch seconds.
        render_settings: what Deployments are rendered with.
        observer: told of every decision, for metrics and live views.
        forget: told the key of every set that is gone.
        at_once: how many sets are handled at the same time. Where the cluster is far away, one after the other would
            keep those that come last waiting; then what is told of them waits until all are scaled, too.
    """

    def __init__(
        self,
        cluster: Cluster,
        signals: Signals,
        progress: Progresses,
        clock: Callable[[], float],
        render_settings: RenderSettings,
        observer: Observer | None = None,
        forget: Callable[[str], None] | None = None,
        at_once: int = 1,
    ) -> None:
        self._cluster = cluster
        self._signals = signals
        self._progress = progress
        self._clock = clock
        self._render_settings = render_settings
        self._observer = observer
        self._forget = forget
        self._memories: dict[str, _Memory] = {}
        self._resyncs = 0
        self._threads = ThreadPoolExecutor(at_once, "pools") if at_once > 1 else None
        self._errands = Errands() if at_once > 1 else None
        self._woken = threading.Event()
        self.ticked_at = clock()

    def run(
        self,
        stop: threading.Event,
        timed: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
        leads: Callable[[], bool] = rounds.always,
    ) -> None:
        """Tick until `stop` is set while this replica leads; see `rounds`."""
        rounds.go_round(self, stop, self._woken, timed, leads)
        if self._threads is not None:
            self._threads.shutdown()
        if self._errands is not None:
            self._errands.end()

    def look(self) -> float:
        """Tick now."""
        return self.tick(self._clock())

    def wake(self) -> None:
        """Something changed, or it is time to stop: look now."""
        self._woken.set()

    def reset(self) -> None:
        """Forget every state: somebody else may have acted in between."""
        self._memories = {}

    def facts(self, key: str) -> Facts | None:
        """What was last found out about a set of workers; from any thread."""
        memory = self._memories.get(key)
        return None if memory is None else memory.facts

    def tick(self, now: float) -> float:
        """Handle every set that is due at `now`; returns the seconds until the next look (at most 1)."""
        self.ticked_at, self._resyncs = now, 0
        try:
            pools, nodes = self._cluster.pools(), self._cluster.nodes()
        except ClusterUnavailable as error:
            log.warning("pools_not_listed", error=str(error))
            return LOOK_SECONDS
        sets = worker_sets(
            [pool for pool in pools if isinstance(pool, JobPool) and not pool.metadata.deleting],  # its pods go, too
            [node for node in nodes if isinstance(node, SendingNode)],
        )
        broken = [pool for pool in pools if isinstance(pool, BrokenPool)]
        self._keep([*(workers.key for workers in sets), *(pool.key for pool in broken)])
        for key, work in self._progress.look(now).items():
            if key in self._memories:
                self._memories[key].work = work
        due = [workers for workers in sets if self._due(workers, now)]
        signals = self._signals.sample(due, now) if due else {}
        seen: dict[str, Facts] = {}
        with self._errands.held() if self._errands is not None else contextlib.nullcontext():
            self._each({each.key: partial(self._handle, each, signals[each.key], now, seen) for each in due})
        for workers in due:
            if (facts := seen.get(workers.key)) is not None:
                self._tell(workers.key, self._words(workers, facts, now), kept=facts.acted)
        for pool in broken:
            if rounds.due(now, self._memories[pool.key].next_at, LOOK_SECONDS):
                self._handle_broken(pool, now)
        soonest = min((memory.next_at for memory in self._memories.values()), default=now + LOOK_SECONDS)
        return min(max(soonest - now, 0.05), LOOK_SECONDS)

    def _keep(self, keys: Sequence[str]) -> None:
        gone = self._memories.keys() - set(keys)
        self._memories = {key: self._memories.get(key) or _Memory() for key in keys}
        if self._forget is not None:
            for key in gone:
                self._forget(key)

    def _due(self, workers: WorkerSet, now: float) -> bool:
        memory = self._memories[workers.key]
        polling = workers.spec.autoscaling.polling_interval_seconds
        return rounds.due(now, memory.next_at, polling) or memory.workers is None or _differ(memory.workers, workers)

    def _each(self, handles: Mapping[str, Callable[[], None]]) -> None:
        if self._threads is None:
            for key, handle in handles.items():
                self._handled(key, handle)
        else:
            wait([self._threads.submit(self._handled, key, handle) for key, handle in handles.items()])

    def _handled(self, key: str, handle: Callable[[], None]) -> None:
        self._guarded(key, handle)
        self.ticked_at = self._clock()  # many sets take a while, and that is no standstill

    def _tell(self, key: str, words: Callable[[], None], *, kept: bool) -> None:
        """Tell of a set; a later word takes the place of one that is not `kept`."""
        if self._errands is None:
            self._guarded(key, words)
        else:
            self._errands.put(key, partial(self._guarded, key, words), kept=kept)

    def _guarded(self, key: str, handle: Callable[[], None]) -> None:
        try:
            handle()
        except NotLeader:
            log.info("not_leading", pool=key)
        except OperatorError as error:
            log.warning("pool_failed", pool=key, error=str(error))
        except Exception:
            log.exception("pool_crashed", pool=key)

    def _handle_broken(self, pool: BrokenPool, now: float) -> None:
        memory = self._memories[pool.key]
        memory.workers, memory.next_at = None, now + LOOK_SECONDS
        self._tell(pool.key, partial(reporting.report_broken, self._cluster, pool, memory.report, now), kept=False)

    def _handle(self, workers: WorkerSet, signal: Signal, now: float, seen: dict[str, Facts]) -> None:
        memory = self._memories[workers.key]
        if memory.workers is None or _differ(memory.workers, workers):
            memory.changed = True
        memory.workers, memory.next_at = workers, now + workers.spec.autoscaling.polling_interval_seconds
        memory.facts = seen[workers.key] = self._scale(workers, memory, signal, now)

    def _words(self, workers: WorkerSet, facts: Facts, now: float) -> Callable[[], None]:
        return partial(reporting.report, self._cluster, workers, facts, self._memories[workers.key].report, now)

    def _scale(self, workers: WorkerSet, memory: _Memory, signal: Signal, now: float) -> Facts:
        facts = Facts(workers.pool.metadata.generation, workers.spec, signal=signal, taken=workers.taken)
        try:
            workload = self._ensure(workers, memory, now)
            facts = replace(facts, workload=workload)
            sample = _sample(signal, workload, memory.work)
            memory.work = None
            state = memory.state or recalled(workers, sample.replicas, now)
            decision = decide(sample, workers.spec, state, now)
            try:
                acted = self._act(workers, memory, sample, decision)
            except OperatorError:  # what was not done must not count against the policies
                memory.state = remember(state, sample, workers.spec, replace(decision, after=decision.before))
                raise
            memory.state = remember(state, sample, workers.spec, decision)
            memory.shadow = self._shadow(workers, memory, sample, now)
            facts = replace(facts, decision=decision, shadow=memory.shadow)
            if acted:
                facts = replace(facts, workload=self._cluster.observe(workers))
        except NotLeader:
            raise
        except OperatorError as error:
            return replace(facts, problem=_problem(error))
        except Exception as error:  # whoever made the pool cannot see our log
            log.exception("pool_crashed", pool=workers.key)
            words = f"a mistake in the operator, please report it with its log: {type(error).__name__}: {error}"
            return replace(facts, problem=Problem(Reason.OPERATOR_FAILED, words))
        if self._observer is not None:
            self._observer(workers, sample, decision, memory.shadow)
        return facts

    @staticmethod
    def _shadow(workers: WorkerSet, memory: _Memory, sample: Sample, now: float) -> shadow.Shadow | None:
        spec = workers.spec.shadow_spec()
        if spec is None or memory.state is None:
            return None
        return shadow.step(memory.shadow, sample, spec, memory.state, now)

    def _act(self, workers: WorkerSet, memory: _Memory, sample: Sample, decision: Decision) -> bool:
        """Do what was decided, in the modes that act; whether anything was done."""
        if workers.spec.mode is Mode.EXTERNAL:
            if not memory.released:
                self._cluster.release(workers)
                memory.released = True
            return False
        memory.released = False
        if workers.spec.mode is Mode.RECOMMEND or decision.after == decision.before:
            return False
        self._cluster.scale(workers, decision.after, self._first_to_go(workers, sample, decision))
        log.info("scaled", pool=workers.key, message=decision.message)
        return True

    def _first_to_go(self, workers: WorkerSet, sample: Sample, decision: Decision) -> tuple[str, ...]:
        """The pods to end: those with the fewest jobs in flight, of these the youngest."""
        surplus = decision.before - decision.after
        if surplus <= 0 or decision.after == 0:
            return ()
        in_flight = self._signals.in_flight(workers)
        ordered = sorted(sample.pods, key=lambda pod: (in_flight.get(pod.name, 0), -pod.created_at, pod.name))
        return tuple(pod.name for pod in ordered[:surplus])

    def _ensure(self, workers: WorkerSet, memory: _Memory, now: float) -> Workload:
        """The Deployment, applied if it is missing, outdated or due for a check."""
        workload = self._cluster.observe(workers)
        if workload.exists and not memory.changed and not self._resync(memory, now):
            return workload
        deployment = render(workers, self._render_settings)
        if not workload.exists or deployment != memory.applied or not memory.changed:
            self._cluster.apply(workers, deployment)
            memory.applied, memory.applied_at = deployment, now
        memory.changed = False
        return self._cluster.observe(workers)

    def _resync(self, memory: _Memory, now: float) -> bool:
        """Whether it is time, and this set's turn, to apply again what should be there already."""
        if not rounds.due(now, memory.applied_at + RESYNC_SECONDS, RESYNC_SECONDS) or self._resyncs >= RESYNCS_PER_TICK:
            return False
        self._resyncs += 1
        return True


def _differ(one: WorkerSet, other: WorkerSet) -> bool:
    """Whether two sets of one key differ in what is wanted; a new status is no reason to look again."""
    if one.pool.metadata.uid != other.pool.metadata.uid or (one.spec is not other.spec and one.spec != other.spec):
        return True
    if one.taken != other.taken or (one.node is None) is not (other.node is None):
        return True
    return one.node is not None and other.node is not None and one.node.spec != other.node.spec


def _sample(signal: Signal, workload: Workload, work: Work | None) -> Sample:
    pods = tuple(
        PodTimes(pod.name, pod.created_at, pod.ready_at, pod.unschedulable) for pod in workload.pods if not pod.stopping
    )
    return Sample(signal, workload.replicas, workload.ready, workload.starting, pods, work)


def _problem(error: OperatorError) -> Problem:
    match error:
        case NameTaken():
            return Problem(Reason.NAME_TAKEN, str(error))
        case ClusterUnavailable():
            return Problem(Reason.CLUSTER_UNAVAILABLE, str(error))
        case _:
            return Problem(Reason.REJECTED, str(error))
