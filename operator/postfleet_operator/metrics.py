"""What the operator tells Prometheus. Every name is explained in docs/metrics.md.

Series are labelled by namespace, pool and node, never by tenant or job. Those of a pool that is gone are removed.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, disable_created_metrics

from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Bottleneck, Decision, Sample
from postfleet_operator.spec import Mode
from postfleet_operator.workerset import WorkerSet

SET = ("namespace", "pool", "node")
TICK_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
# A set of workers that was not looked at for so long was another replica's, or nobody's: nothing is known of that time.
GAP_SECONDS = 60.0
# Queues without a pool come from jobs, so anybody may name them; the rest is counted together.
MOST_UNSERVED = 50
OTHER = "other"
ACTING = frozenset({Mode.AUTO, Mode.MANUAL})

# A second series for the time when a counter was made, for each one, is more than it is worth.
disable_created_metrics()  # type: ignore[no-untyped-call]

Labels = tuple[str, str, str]


@dataclass(frozen=True, slots=True)
class _Look:
    """What was seen of a set last, for what grows with time."""

    time: float
    replicas: int
    late: bool
    undersized: bool
    shadow: Decision | None
    targets: Mapping[str, int] = field(default_factory=dict)


class Metrics:
    """The operator's metrics in one registry. `observe` and `forget` are the autoscaler's observer; any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._lock = threading.RLock()
        self._leads = True
        self._looks: dict[str, _Look] = {}
        self._labels: dict[str, Labels] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._unserved_names: set[str] = set()

        def gauge(name: str, text: str, labels: Collection[str] = (), unit: str = "") -> Gauge:
            return Gauge(name, text, labels, unit=unit, registry=registry)

        def counter(name: str, text: str, labels: Collection[str] = (), unit: str = "") -> Counter:
            return Counter(name, text, labels, unit=unit, registry=registry)

        self._replicas = gauge(
            "jobpool_replicas",
            "Workers that are wanted (desired), Ready (ready), and on their way (starting).",
            (*SET, "kind"),
        )
        self._bounds = gauge(
            "jobpool_replicas_bound", "minReplicas (min) and maxReplicas (max) of the pool.", (*SET, "bound")
        )
        self._backlog = gauge(
            "jobpool_backlog", "Jobs that run now, or that another worker would speed up; none that a limit holds.", SET
        )
        self._jobs = gauge("jobpool_jobs", "Jobs of the pool's queues, by where they are.", (*SET, "state"))
        self._oldest = gauge(
            "jobpool_oldest_seconds", "Wait of the oldest due job that no limit holds.", SET, unit="seconds"
        )
        self._targets = gauge(
            "jobpool_latency_target_seconds",
            "How long a job may wait, in pools with a latency target.",
            (*SET, "queue"),
            unit="seconds",
        )
        self._healthy = gauge("jobpool_signal_healthy", "1 when the backlog is read from a fresh record, else 0.", SET)
        self._bottleneck = gauge(
            "jobpool_bottleneck",
            "1 for what keeps the backlog from shrinking faster, 0 for the rest.",
            (*SET, "bottleneck"),
        )
        self._throughput = gauge(
            "jobpool_throughput_per_replica", "Jobs per second that one busy worker does, as measured.", SET
        )
        self._startup = gauge(
            "jobpool_startup_seconds", "95th percentile of a worker's time until it is Ready.", SET, unit="seconds"
        )
        self._decisions = counter(
            "jobpool_decisions_total", "Decisions on the number of workers, one per look, by reason.", (*SET, "reason")
        )
        self._changes = counter(
            "jobpool_scale_changes_total", "Decisions that changed the number of workers.", (*SET, "direction")
        )
        self._recommended = gauge(
            "jobpool_recommended_replicas",
            "Workers that the policy asks for: the pool's (live), its shadow.",
            (*SET, "policy"),
        )
        self._replica_seconds = counter(
            "jobpool_replica_seconds_total",
            "Workers times seconds that the policy asked for.",
            (*SET, "policy"),
            "seconds",
        )
        self._undersized = counter(
            "jobpool_undersized_seconds_total",
            "Seconds in which the policy asked for fewer workers than its own target called for.",
            (*SET, "policy"),
            "seconds",
        )
        self._late = counter(
            "jobpool_slo_miss_seconds_total",
            "Seconds in which the oldest ready job of a queue had waited longer than its latency target.",
            SET,
            "seconds",
        )
        self._leader = gauge("postfleet_operator_leader", "1 while this replica of the operator acts, else 0.")
        self._ticks = Histogram(
            "postfleet_operator_tick_seconds",
            "Time of one round of a loop of the operator.",
            ("loop",),
            unit="seconds",
            buckets=TICK_BUCKETS,
            registry=registry,
        )
        self._calls = counter(
            "postfleet_operator_api_calls_total", "Calls of the Kubernetes API.", ("verb", "resource", "code")
        )
        self._unserved = gauge("jobs_unserved", "Unfinished jobs in queues that no pool serves.", ("queue",))
        self._phases = gauge(
            "sendingnode_phase", "1 for the phase that the sending node is in.", ("namespace", "node", "phase")
        )

    def observe(self, workers: WorkerSet, sample: Sample, decision: Decision, shadow: Shadow | None) -> None:
        """One look at a set of workers, and what was decided."""
        with self._lock:
            if not self._leads:
                return
            labels = (workers.namespace, workers.pool.name, workers.node_label)
            self._tell_work(labels, sample, decision)
            self._tell_replicas(labels, workers, sample, decision)
            before = self._looks.get(workers.key)
            self._tell_time(labels, before, decision.time)
            if before is not None and before.shadow is not None and shadow is None:
                self._forget_shadow(labels)
            if shadow is not None:
                self._recommended.labels(*labels, "shadow").set(shadow.replicas)
            targets = _targets(workers)
            self._tell_targets(labels, {} if before is None else before.targets, targets)
            self._labels[workers.key] = labels
            self._looks[workers.key] = _Look(
                decision.time,
                decision.after,
                _late(workers, sample),
                _undersized(decision),
                None if shadow is None else shadow.decision,
                targets,
            )

    def forget(self, key: str) -> None:
        """A set of workers is gone, and its series with it."""
        with self._lock:
            if key not in self._labels:
                return
            del self._looks[key]
            labels = dict(zip(SET, self._labels.pop(key), strict=True))
            for metric in (
                self._replicas, self._bounds, self._backlog, self._jobs, self._oldest, self._targets, self._healthy,
                self._bottleneck, self._throughput, self._startup, self._decisions, self._changes, self._recommended,
                self._replica_seconds, self._undersized, self._late,
            ):  # fmt: skip
                metric.remove_by_labels(labels)

    def leading(self, leads: bool) -> None:
        """Whether this replica acts. One that does not tells nothing of pools and nodes: the one that does will."""
        with self._lock:
            self._leads = leads
            self._leader.set(leads)
            if leads:
                return
            for key in list(self._looks):
                self.forget(key)
            for namespace, name in list(self._nodes):
                self.forget_node(namespace, name)
            self.unserved({})

    def tick(self, loop: str) -> AbstractContextManager[object]:
        """Times one round of a loop (`autoscaler`, `keeper`)."""
        return self._ticks.labels(loop).time()

    def api_call(self, verb: str, resource: str, code: int | None) -> None:
        """A call of the Kubernetes API was answered; `code` is None when there was no answer."""
        self._calls.labels(verb, resource, "none" if code is None else str(code)).inc()

    def unserved(self, jobs: Mapping[str, int]) -> None:
        """The queues with unfinished jobs that no pool serves; all of them, so that the others go."""
        with self._lock:
            jobs = jobs if self._leads else {}
            most = sorted(jobs, key=lambda queue: (-jobs[queue], queue))[:MOST_UNSERVED]
            told = {queue: jobs[queue] for queue in most}
            if rest := sum(jobs.values()) - sum(told.values()):
                told[OTHER] = told.get(OTHER, 0) + rest
            for queue in self._unserved_names - told.keys():
                self._unserved.remove(queue)
            for queue, count in told.items():
                self._unserved.labels(queue).set(count)
            self._unserved_names = set(told)

    def node(self, namespace: str, name: str, phase: str) -> None:
        """The phase of a sending node."""
        with self._lock:
            if not self._leads:
                return
            before = self._nodes.get((namespace, name))
            if before is not None and before != phase:
                self._phases.remove(namespace, name, before)
            self._phases.labels(namespace, name, phase).set(1)
            self._nodes[namespace, name] = phase

    def forget_node(self, namespace: str, name: str) -> None:
        """A sending node is gone."""
        with self._lock:
            phase = self._nodes.pop((namespace, name), None)
            if phase is not None:
                self._phases.remove(namespace, name, phase)

    def _tell_work(self, labels: Labels, sample: Sample, decision: Decision) -> None:
        signal = sample.signal
        self._healthy.labels(*labels).set(signal.healthy)
        self._backlog.labels(*labels).set(signal.backlog)
        self._oldest.labels(*labels).set(signal.oldest_seconds)
        states = {
            "ready": signal.ready,
            "in_flight": signal.in_flight,
            "running": signal.running,
            "held": signal.held,
            "throttled": signal.throttled,
            "scheduled": signal.scheduled,
        }
        for state, count in states.items():
            self._jobs.labels(*labels, state).set(count)
        for bottleneck in Bottleneck:
            self._bottleneck.labels(*labels, bottleneck.value).set(bottleneck is decision.bottleneck)
        if decision.throughput_per_replica is not None:
            self._throughput.labels(*labels).set(decision.throughput_per_replica)
        if decision.startup_seconds is not None:
            self._startup.labels(*labels).set(decision.startup_seconds)

    def _tell_replicas(self, labels: Labels, workers: WorkerSet, sample: Sample, decision: Decision) -> None:
        policy = workers.spec.autoscaling
        self._replicas.labels(*labels, "desired").set(decision.after)
        self._replicas.labels(*labels, "ready").set(sample.ready)
        self._replicas.labels(*labels, "starting").set(sample.starting)
        self._bounds.labels(*labels, "min").set(policy.min_replicas)
        self._bounds.labels(*labels, "max").set(policy.max_replicas)
        self._recommended.labels(*labels, "live").set(decision.after)
        self._decisions.labels(*labels, decision.reason.value).inc()
        by = decision.after - decision.before if workers.spec.mode in ACTING else 0
        self._changes.labels(*labels, "up").inc(by > 0)
        self._changes.labels(*labels, "down").inc(by < 0)

    def _tell_targets(self, labels: Labels, before: Mapping[str, int], targets: Mapping[str, int]) -> None:
        for queue in before.keys() - targets.keys():
            self._targets.remove(*labels, queue)
        for queue, seconds in targets.items():
            self._targets.labels(*labels, queue).set(seconds)

    def _tell_time(self, labels: Labels, before: _Look | None, now: float) -> None:
        """Count the time since the last look as that look was."""
        elapsed = 0.0 if before is None else now - before.time
        if before is None or not 0 <= elapsed <= GAP_SECONDS:
            before = _Look(now, 0, late=False, undersized=False, shadow=None)
        self._late.labels(*labels).inc(elapsed * before.late)
        self._replica_seconds.labels(*labels, "live").inc(elapsed * before.replicas)
        self._undersized.labels(*labels, "live").inc(elapsed * before.undersized)
        if (shadow := before.shadow) is not None:
            self._replica_seconds.labels(*labels, "shadow").inc(elapsed * shadow.after)
            self._undersized.labels(*labels, "shadow").inc(elapsed * _undersized(shadow))

    def _forget_shadow(self, labels: Labels) -> None:
        named = {**dict(zip(SET, labels, strict=True)), "policy": "shadow"}
        for metric in (self._recommended, self._replica_seconds, self._undersized):
            metric.remove_by_labels(named)


def _late(workers: WorkerSet, sample: Sample) -> bool:
    """Whether a job has waited longer than its queue's latency target; never in a pool with a backlog target."""
    target = workers.spec.autoscaling.target
    return any(
        queue.waiting > 0 and (latency := target.latency_for(queue.name)) is not None and queue.oldest_seconds > latency
        for queue in sample.signal.queues
    )


def _targets(workers: WorkerSet) -> dict[str, int]:
    """How long a job may wait, by queue as the relay calls it; only those that the set scales on."""
    target = workers.spec.autoscaling.target
    found = {workers.physical(queue): target.latency_for(queue) for queue in workers.own_queues}
    return {queue: seconds for queue, seconds in found.items() if seconds is not None}


def _undersized(decision: Decision) -> bool:
    return decision.after < decision.recommended
