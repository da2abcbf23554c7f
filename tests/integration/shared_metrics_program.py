"""A parent and its processes, one after the other, that count into one folder; prints what the parent then shows."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys

from prometheus_client import CollectorRegistry

from postfleet_workers import clock
from postfleet_workers.metrics.shared import SharedMetrics
from postfleet_workers.metrics.worker import WorkerMetrics

NAMES = ("job_run_seconds_count", "worker_threads", "worker_lease_age_seconds")


def child(shared: SharedMetrics, seconds_ago: float) -> None:
    shared.join()
    metrics = WorkerMetrics(CollectorRegistry())
    metrics.beat(clock.monotonic() - seconds_ago, 4, 1)
    metrics._run.labels("probe").observe_all([0.1, 0.2])
    os.kill(os.getpid(), signal.SIGKILL if seconds_ago > 50 else signal.SIGSTOP)


def main() -> None:
    context = multiprocessing.get_context("fork")
    shared = SharedMetrics()

    def show() -> None:
        samples = [sample for metric in shared.registry.collect() for sample in metric.samples]
        shown = {sample.name: sample.value for sample in samples if sample.name in NAMES}
        sys.stdout.write(f"{json.dumps(shown)}\n")
        sys.stdout.flush()

    show()
    living = context.Process(target=child, args=(shared, 10.0))
    living.start()
    os.waitid(os.P_PID, living.pid or 0, os.WSTOPPED | os.WNOWAIT)
    show()
    for _ in range(2):
        killed = context.Process(target=child, args=(shared, 100.0))
        killed.start()
        killed.join()
        show()
        shared.ended(killed.pid or 0)
        show()
    living.kill()
    living.join()
    shared.close()


if __name__ == "__main__":
    main()
