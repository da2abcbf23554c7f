"""What a demo sees while it runs: samples once a second, and what the autoscaler decides."""

from __future__ import annotations

import threading
import time

from postfleet_local.fleet import Fleet
from postfleet_local.live import Display
from postfleet_local.timeline import Change, Counts, Sample
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Decision
from postfleet_operator.scaling.values import Sample as PoolSample
from postfleet_operator.spec import JobPool, Mode
from postfleet_operator.workerset import WorkerSet


class Observations:
    """Collects; called by the demo's loop and by the autoscaler's thread. Times count from `begin`."""

    def __init__(self, display: Display) -> None:
        self.samples: list[Sample] = []
        self._changes: list[tuple[float, str, Decision]] = []
        self.news = ""
        self.begun_at = time.time()
        self.peak = 0
        self._display = display
        self._lock = threading.Lock()
        self._backlogs: dict[str, int] = {}
        self._before: tuple[float, int] | None = None

    def begin(self) -> None:
        """The campaign starts now."""
        self.begun_at = time.time()
        self._before = (time.monotonic(), 0)

    def changes(self) -> tuple[Change, ...]:
        """How the pools were scaled; what came before the start is at 0."""
        with self._lock:
            return tuple(
                Change(max(0.0, at - self.begun_at), pool, d.before, d.after, why(d)) for at, pool, d in self._changes
            )

    def tell(self, line: str) -> None:
        """A line of the fleet's."""
        self.news = line
        self._display.note(line)

    def observe(self, workers: WorkerSet, sample: PoolSample, decision: Decision, _shadow: Shadow | None) -> None:
        """A scaling decision."""
        with self._lock:
            self._backlogs[workers.name] = sample.signal.backlog
            if decision.after != decision.before:
                self._changes.append((decision.time, workers.name, decision))

    def take(self, fleet: Fleet, counts: Counts) -> None:
        """Take a sample."""
        now = time.monotonic()
        then, sent = self._before or (now - 1.0, counts.sent)
        self._before = (now, counts.sent)
        workloads = [fleet.cluster.observe(workers) for workers in fleet.worker_sets()]
        ready = sum(w.ready for w in workloads)
        self.peak = max(self.peak, ready)
        with self._lock:
            backlog = sum(self._backlogs.values())
        self.samples.append(
            Sample(
                at=time.time() - self.begun_at,
                backlog=backlog,
                desired=sum(w.replicas for w in workloads),
                ready=ready,
                counts=counts,
                emails_per_second=(counts.sent - sent) / max(now - then, 0.001),
            )
        )

    def shrunk(self, fleet: Fleet) -> bool:
        """Whether every pool is back at its least number of workers, and no other process of it is left."""
        for workers in fleet.worker_sets():
            status, most = fleet.processes.status(workers.name), least(workers.pool)
            if status is None or status.desired > most or len(status.pids) > most:
                return False
        return True


def least(pool: JobPool) -> int:
    """The number of workers that a pool never goes below. Pure."""
    return pool.spec.autoscaling.min_replicas if pool.spec.mode is Mode.AUTO else pool.spec.replicas


def why(decision: Decision) -> str:
    """A decision's message without the numbers that stand beside it. Pure."""
    return decision.message.removeprefix(f"{decision.before} -> {decision.after}: ")
