"""What Redis answers about a queue, and what it means for a pool. Pure; `sampling` does the asking.

Dramatiq keeps every unfinished message of a queue in the hash `dramatiq:<q>.msgs` (HLEN: waiting and in flight) and
the ids of those waiting in the list `dramatiq:<q>` (LLEN alone hides what workers hold). The relay stamps what only
it knows into `postfleet:relay:<q>`. A message is a bundle of jobs: counts are multiplied by the mean bundle size.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from postfleet_operator.scaling.values import QueueLoad, Signal, Source

# A relay that misses this many of its own polls is silent. Never less than the floor: a busy machine may hold it up.
STALE_POLLS = 3.0
STALE_FLOOR_SECONDS = 2.0


@dataclass(frozen=True, slots=True)
class RelayRecord:
    """What the relay wrote about a queue; times are Redis' epoch seconds, counts are jobs.

    `permitted`: jobs per second by the limit that binds them; None when some work of the queue has no limit.
    """

    at: float
    poll_seconds: float
    held: int = 0
    throttled: int = 0
    throttled_by: Mapping[str, int] = field(default_factory=dict)
    scheduled: int = 0
    next_run_at: float | None = None
    oldest_seconds: float = 0.0
    running: int = 0
    running_bundles: int = 0
    mean_bundle_size: float = 1.0
    arrivals_per_second: float = 0.0
    permitted: Mapping[str, float] | None = None

    def age_seconds(self, server_time: float) -> float:
        """How old it is."""
        return max(server_time - self.at, 0.0)

    def stale(self, server_time: float) -> bool:
        """Whether the relay has been silent for too long to trust it."""
        return self.age_seconds(server_time) > max(STALE_POLLS * self.poll_seconds, STALE_FLOOR_SECONDS)


@dataclass(frozen=True, slots=True)
class QueueReading:
    """One queue in Redis: messages in `.msgs`, messages in the list, the relay's record or why there is none."""

    queue: str
    messages: int
    listed: int
    record: RelayRecord | None
    problem: str = ""

    def named(self, queue: str) -> QueueReading:
        """The same under the pool's own name of the queue."""
        return replace(self, queue=queue)


def parse_record(text: str | None) -> RelayRecord | None:
    """The relay's record; None when there is none or it is not one (a broken record is no record)."""
    if text is None:
        return None
    try:
        raw: Any = json.loads(text)
        return RelayRecord(
            at=float(raw["at"]),
            poll_seconds=float(raw["poll_seconds"]),
            held=int(raw["held"]),
            throttled=int(raw["throttled"]),
            throttled_by={str(name): int(count) for name, count in raw["throttled_by"].items()},
            scheduled=int(raw["scheduled"]),
            next_run_at=None if raw["next_run_at"] is None else float(raw["next_run_at"]),
            oldest_seconds=float(raw["oldest_seconds"]),
            running=int(raw["running"]),
            running_bundles=int(raw.get("running_bundles", raw["running"])),
            mean_bundle_size=max(float(raw["mean_bundle_size"]), 1.0),
            arrivals_per_second=max(float(raw.get("arrivals_per_second", 0.0)), 0.0),
            permitted=_rates(raw.get("permitted")),
        )
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _rates(raw: Any) -> dict[str, float] | None:
    return None if raw is None else {str(name): float(rate) for name, rate in raw.items()}


def problems(readings: Iterable[QueueReading], server_time: float) -> list[str]:
    """Why the readings are no healthy signal; empty when they are."""
    found = []
    for reading in readings:
        if reading.problem:
            found.append(reading.problem)
        elif reading.record is None:
            found.append(f"the relay has written no record of queue {reading.queue}")
        elif reading.record.stale(server_time):
            age = reading.record.age_seconds(server_time)
            found.append(f"the relay's record of queue {reading.queue} is {age:.1f} s old")
    return found


def sum_up(readings: Sequence[QueueReading]) -> Signal:
    """The signal of a set of workers from healthy readings of all its queues."""
    pairs = [(reading, reading.record) for reading in readings if reading.record is not None]
    throttled_by: Counter[str] = Counter()
    for _, record in pairs:
        throttled_by.update(record.throttled_by)
    due = [record.next_run_at for _, record in pairs if record.next_run_at is not None]
    return Signal(
        source=Source.REDIS,
        ready=sum(_ready(reading, record) for reading, record in pairs),
        in_flight=sum(_in_flight(reading, record) for reading, record in pairs),
        held=sum(record.held for _, record in pairs),
        throttled=sum(record.throttled for _, record in pairs),
        throttled_by=dict(throttled_by),
        scheduled=sum(record.scheduled for _, record in pairs),
        next_run_at=min(due, default=None),
        oldest_seconds=max((record.oldest_seconds for _, record in pairs), default=0.0),
        running=sum(record.running for _, record in pairs),
        running_bundles=sum(record.running_bundles for _, record in pairs),
        permitted_per_second=_permitted([record for _, record in pairs]),
        queues=tuple(_load(reading, record) for reading, record in pairs),
    )


def _ready(reading: QueueReading, record: RelayRecord) -> int:
    return math.ceil(reading.listed * record.mean_bundle_size)


def _in_flight(reading: QueueReading, record: RelayRecord) -> int:
    # The two counts are read one after the other: a message may have come or gone in between.
    return math.ceil(max(reading.messages - reading.listed, 0) * record.mean_bundle_size)


def _load(reading: QueueReading, record: RelayRecord) -> QueueLoad:
    prefetched = max(_in_flight(reading, record) - record.running, 0)
    return QueueLoad(
        reading.queue,
        waiting=_ready(reading, record) + prefetched + record.held,
        arrivals_per_second=record.arrivals_per_second,
        oldest_seconds=record.oldest_seconds,
    )


def _permitted(records: Iterable[RelayRecord]) -> float | None:
    """What the limits let through, each limit counted once; a queue without any work neither limits nor is limited."""
    limits: dict[str, float] = {}
    for record in records:
        if record.permitted is None:
            return None
        limits |= record.permitted
    return sum(limits.values()) if limits else None
