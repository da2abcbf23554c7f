"""The values that go into a scaling decision and come out of it. Pure, frozen; counts are jobs, never bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from postfleet_operator.reasons import DecisionReason


class Source(StrEnum):
    """Where a signal was read."""

    REDIS = "Redis"
    POSTGRESQL = "PostgreSQL"
    NONE = "None"


class Bottleneck(StrEnum):
    """What keeps the backlog from shrinking faster."""

    NONE = "None"
    WORKERS = "Workers"
    THROTTLE = "Throttle"
    MAX_REPLICAS = "MaxReplicas"
    STARTING = "Starting"
    SIGNAL = "Signal"


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What is known of one queue that a latency target needs.

    Attributes:
        name: the pool's own name of the queue.
        waiting: due jobs that no worker has begun and no limit holds.
        arrivals_per_second: jobs that become ready to run, moving average with a half-life of 30 s.
        oldest_seconds: how long the oldest of the waiting ones has waited.
    """

    name: str
    waiting: int = 0
    arrivals_per_second: float = 0.0
    oldest_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Signal:
    """What is known of the work of a pool's queues, summed up.

    Attributes:
        source: where it was read; only `Redis` is a healthy signal.
        message: in plain words, why it is not healthy; empty when it is.
        ready: in Redis, waiting for a worker to fetch it.
        in_flight: in Redis, fetched by a worker: prefetched or running.
        held: due, and in PostgreSQL only because the pipe is full.
        throttled: due, but held by a limit or a pause; no worker could speed it up.
        throttled_by: which limit holds how many.
        scheduled: waiting for a later `run_at`.
        next_run_at: epoch seconds of the earliest of those.
        oldest_seconds: age of the oldest due, unstarted job that no limit holds.
        running: being executed, as the ledger has it.
        running_bundles: bundles that they make up, that is busy threads.
        permitted_per_second: what limits let through in the long run; None when some work has no limit.
        queues: the same by queue, as far as a latency target needs it.
    """

    source: Source = Source.NONE
    message: str = ""
    ready: int = 0
    in_flight: int = 0
    held: int = 0
    throttled: int = 0
    throttled_by: Mapping[str, int] = field(default_factory=dict)
    scheduled: int = 0
    next_run_at: float | None = None
    oldest_seconds: float = 0.0
    running: int = 0
    running_bundles: int = 0
    permitted_per_second: float | None = None
    queues: tuple[QueueLoad, ...] = ()

    @property
    def healthy(self) -> bool:
        """Whether a pool may shrink on it."""
        return self.source is Source.REDIS

    @property
    def backlog(self) -> int:
        """Jobs that a worker does or could do now, running ones included; never those that a limit holds.

        After a flush Redis knows less than the ledger: what runs counts all the same.
        """
        return max(self.ready + self.in_flight, self.running) + self.held

    @property
    def waiting(self) -> int:
        """Jobs that nobody has begun, though no limit holds them."""
        return sum(queue.waiting for queue in self.queues)

    @property
    def arrivals_per_second(self) -> float:
        """Jobs that become ready to run, all queues together."""
        return sum(queue.arrivals_per_second for queue in self.queues)


@dataclass(frozen=True, slots=True)
class Work:
    """What a set's workers did between two of their heartbeats.

    Attributes:
        completed: jobs settled, those that were put back left out.
        busy_seconds: thread-seconds that finished bundles took, without the time of those.
        elapsed_seconds: time between the heartbeats.
        busy_threads: threads inside a bundle at the last one.
        threads: all threads of the live workers.
    """

    completed: int
    busy_seconds: float
    elapsed_seconds: float
    busy_threads: int = 0
    threads: int = 0


@dataclass(frozen=True, slots=True)
class PodTimes:
    """One worker's life as far as scaling goes; epoch seconds. `ready_at` is None while it is not Ready."""

    name: str
    created_at: float
    ready_at: float | None = None
    unschedulable: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a set of workers: the work, and the workers.

    Attributes:
        signal: the work.
        replicas: workers that the Deployment asks for.
        ready: workers that are Ready.
        starting: workers asked for that are not Ready yet.
        pods: the workers that exist and are not stopping.
        work: what they did since the last look; None when nothing new was reported.
    """

    signal: Signal
    replicas: int = 0
    ready: int = 0
    starting: int = 0
    pods: tuple[PodTimes, ...] = ()
    work: Work | None = None


@dataclass(frozen=True, slots=True)
class Clamp:
    """One rule that changed the number: its name, from what, to what, and why in plain words."""

    name: DecisionReason
    before: int
    after: int
    why: str
    until: float | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """How many workers there should be, and everything that led there.

    Attributes:
        time: epoch seconds.
        before: what the Deployment asked for.
        after: what it should ask for.
        needed: what the work alone asks for, before any clamp.
        recommended: what is needed within what limits and start-up allow, before the clamps on the pace of change.
        sustained: how much of that is for what arrives, not for clearing what waits.
        reason: the last clamp that changed the number, or where it comes from.
        message: all of it in one plain sentence with the numbers.
        inputs: the numbers it was made from, as they appear in the status.
        clamps: what each rule changed, in order.
        bottleneck: what keeps the backlog from shrinking faster.
        blocked_until: epoch seconds until which a clamp that waits for time holds.
        throughput_per_replica: jobs per second of one busy worker, measured; None while unknown.
        startup_seconds: 95th percentile of the time from asking for a worker to its being Ready; None while unknown.
    """

    time: float
    before: int
    after: int
    needed: int
    reason: DecisionReason
    message: str
    inputs: Mapping[str, int | float | str] = field(default_factory=dict)
    clamps: tuple[Clamp, ...] = ()
    bottleneck: Bottleneck = Bottleneck.NONE
    blocked_until: float | None = None
    recommended: int = 0
    sustained: int = 0
    throughput_per_replica: float | None = None
    startup_seconds: float | None = None

    def clamped(self, name: DecisionReason) -> bool:
        """Whether the rule of that name changed the number."""
        return any(clamp.name is name for clamp in self.clamps)

    def clamp(self, name: DecisionReason) -> Clamp | None:
        """What the rule of that name changed, if it did."""
        return next((clamp for clamp in self.clamps if clamp.name is name), None)
