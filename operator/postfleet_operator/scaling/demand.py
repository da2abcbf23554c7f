"""What the work asks for, in jobs per second and in workers, before any rule has its say. Pure.

With a latency target each queue asks for λ + B/D: what arrives, and what waits cleared within D, the time that is left
until the oldest of it has waited too long. A pool's queues add up, limits cap the sum, and one worker's throughput μ
turns it into workers: ceil(min(Σ(λ + B/D), permitted) / μ).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from postfleet_operator.scaling.throughput import Throughput
from postfleet_operator.scaling.values import QueueLoad, Signal
from postfleet_operator.spec import PoolSpec

# Below this share of one worker, arrivals alone keep nobody: λ is a moving average and never quite reaches zero.
NEGLIGIBLE = 0.05
# Whoever has waited too long already has; the rest is cleared in this share of the target.
LATE_SHARE = 0.25
MOST = 1_000_000


@dataclass(frozen=True, slots=True)
class Demand:
    """What the work asks for.

    Attributes:
        rate: jobs per second; None in a pool with a backlog target.
        workers: how many do that, not rounded; None while the throughput is unknown.
        deadline_seconds: the shortest D of the queues that have work waiting; None without one.
    """

    rate: float | None
    workers: float | None
    deadline_seconds: float | None = None

    @property
    def replicas(self) -> int | None:
        """Whole workers."""
        return None if self.workers is None else whole(self.workers)


def whole(workers: float) -> int:
    """Whole workers; what rounding left over asks for none, and nobody has more than a million."""
    return math.ceil(round(min(workers, MOST), 6))


def measure(signal: Signal, spec: PoolSpec, throughput: Throughput, startup_seconds: float) -> Demand:
    """What `signal` asks for by the pool's target."""
    target = spec.autoscaling.target
    if target.backlog_per_replica is not None:
        return Demand(None, signal.backlog / target.backlog_per_replica)
    deadlines = [
        deadline(queue, latency(spec, queue.name), startup_seconds, spec.autoscaling.polling_interval_seconds)
        for queue in signal.queues
    ]
    rate = sum(
        queue.arrivals_per_second + queue.waiting / within
        for queue, within in zip(signal.queues, deadlines, strict=True)
    )
    waiting = [within for queue, within in zip(signal.queues, deadlines, strict=True) if queue.waiting]
    return Demand(rate, workers(rate, signal, spec, throughput), min(waiting, default=None))


def workers(rate: float, signal: Signal, spec: PoolSpec, throughput: Throughput) -> float | None:
    """How many workers do `rate` jobs per second; None while nobody knows what one does."""
    pace = throughput.per_thread()
    if pace is None:
        return None
    needed = rate / (pace * spec.worker.capacity)
    return 0.0 if signal.backlog == 0 and needed < NEGLIGIBLE else needed


def latency(spec: PoolSpec, queue: str) -> float:
    """The latency target of a queue, seconds."""
    return float(spec.autoscaling.target.latency_for(queue) or 0)


def deadline(queue: QueueLoad, target_seconds: float, startup_seconds: float, polling_seconds: float) -> float:
    """D: how long clearing what waits may take."""
    left = target_seconds - queue.oldest_seconds - startup_seconds
    return max(left, LATE_SHARE * target_seconds, polling_seconds)
