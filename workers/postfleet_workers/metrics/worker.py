"""What a worker process tells beside the outcomes: how long jobs waited and ran, its threads, its lease."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from prometheus_client import CollectorRegistry, Gauge

from postfleet_workers import clock
from postfleet_workers.jobs import HandBack, Job, Outcome, Settled
from postfleet_workers.metrics.histogram import BundleHistogram
from postfleet_workers.metrics.jobs import JobMetrics

# From a queue that is empty to a campaign that takes hours; the latency targets that people set lie on bounds.
WAIT_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 14_400.0)
# From a pipelined email to an export.
RUN_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0)
# Processes store when they renewed their lease last, on the machine's monotonic clock; what is shown is its age.
LEASE = "worker_lease_age_seconds"

Ran = Callable[[Job, datetime, float, Outcome], None]


class WorkerMetrics:
    """Metrics of one worker process; safe for its threads."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._jobs = JobMetrics(registry)
        self._wait = BundleHistogram(
            "job_wait_seconds",
            "From the time when a job was due until it began.",
            ("queue",),
            unit="seconds",
            buckets=WAIT_BUCKETS,
            registry=registry,
        )
        self._run = BundleHistogram(
            "job_run_seconds",
            "From the beginning of a job to its outcome.",
            ("type",),
            unit="seconds",
            buckets=RUN_BUCKETS,
            registry=registry,
        )
        self._threads = Gauge(
            "worker_threads", "Threads that run jobs.", multiprocess_mode="livesum", registry=registry
        )
        self._busy = Gauge(
            "worker_threads_busy",
            "Threads inside a bundle at the last heartbeat.",
            multiprocess_mode="livesum",
            registry=registry,
        )
        self._lease = Gauge(
            LEASE,
            "Time since the lease was last renewed, of the process that is worst off.",
            unit="seconds",
            multiprocess_mode="livemin",
            registry=registry,
        )
        self._lease.set(clock.monotonic())

    def settled(self, settled: Sequence[Settled]) -> None:
        """See `JobMetrics.settled`."""
        self._jobs.settled(settled)

    @contextmanager
    def timing(self, job_type: str) -> Iterator[Ran]:
        """Gives what to call for each job of a bundle: when it began, how many seconds it took and its outcome."""
        waits: defaultdict[str, list[float]] = defaultdict(list)
        runs: list[float] = []

        def ran(job: Job, began: datetime, seconds: float, outcome: Outcome) -> None:
            if not isinstance(outcome, HandBack):
                waits[job.queue].append(max((began - job.run_at).total_seconds(), 0.0))
                runs.append(seconds)

        try:
            yield ran
        finally:
            for queue, amounts in waits.items():
                self._wait.labels(queue).observe_all(amounts)
            if runs:
                self._run.labels(job_type).observe_all(runs)

    def beat(self, sent: float, threads: int, busy: int) -> None:
        """The lease was renewed; `sent` is when, on the monotonic clock."""
        self._lease.set(sent)
        self._threads.set(threads)
        self._busy.set(busy)
