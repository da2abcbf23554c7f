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


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a pool: its signal, and its workers.

    Attributes:
        signal: the work.
        replicas: workers that the Deployment asks for.
        ready: workers that are Ready.
        starting: workers asked for that are not Ready yet.
    """

    signal: Signal
    replicas: int = 0
    ready: int = 0
    starting: int = 0


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
        needed: what the backlog alone asks for, before any clamp.
        reason: the last clamp that changed the number, or `Backlog`, or `Idle`.
        message: all of it in one plain sentence with the numbers.
        inputs: the numbers it was made from, as they appear in the status.
        clamps: what each rule changed, in order.
        bottleneck: what keeps the backlog from shrinking faster.
        blocked_until: epoch seconds until which a clamp that waits for time holds.
    """

    time: float
    before: int
    after: int
    needed: int
    reason: DecisionReason
    message: str
    inputs: Mapping[str, int | str] = field(default_factory=dict)
    clamps: tuple[Clamp, ...] = ()
    bottleneck: Bottleneck = Bottleneck.NONE
    blocked_until: float | None = None

    def clamped(self, name: DecisionReason) -> bool:
        """Whether the rule of that name changed the number."""
        return any(clamp.name is name for clamp in self.clamps)


@dataclass(frozen=True, slots=True)
class State:
    """What a pool's decisions remember. Lost on a restart, which only makes the next ones more careful.

    Attributes:
        idle_since: epoch seconds since when every look was healthy and found nothing to do; None when the last did not.
        recommendations: (epoch seconds, needed) of the last looks, for stabilization.
    """

    idle_since: float | None = None
    recommendations: tuple[tuple[float, int], ...] = ()
