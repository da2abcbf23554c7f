"""What the relay tells: the queues that it serves, limits, and how it keeps up itself.

A relay tells only of queues that it serves: `report` and `counted` take all of them, and the series of others go.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from postfleet_workers import clock
from postfleet_workers.jobs import Settled
from postfleet_workers.metrics.jobs import JobMetrics

ROUND_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

# The end of what the relay's record calls a limit or a pause, and the word for it here; the first that fits.
KINDS = {
    " slowed per_minute": "slowed",
    " per_minute": "per_minute",
    " per_hour": "per_hour",
    " per_day": "per_day",
    " warmup": "warmup",
    " maxConnections": "max_connections",
    " paused": "paused",
    " unknown": "unknown",
    " has an invalid spec": "invalid",
    " has an invalid row": "invalid",
}
SUBJECTS = frozenset({"node", "queue", "site", "tenant"})


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """Rows of a queue that are counted only now and then, each up to a bound."""

    overdue: int
    discarded: int


class Series:
    """A gauge of which only what was set last is shown."""

    def __init__(self, gauge: Gauge) -> None:
        self._gauge = gauge
        self._shown: set[tuple[str, ...]] = set()

    def show(self, values: Mapping[tuple[str, ...], float]) -> None:
        """Set these series and remove all others."""
        for labels in self._shown - values.keys():
            self._gauge.remove(*labels)
        for labels, value in values.items():
            self._gauge.labels(*labels).set(value)
        self._shown = set(values)


class RelayMetrics:
    """Metrics of one relay; written by its loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._jobs = JobMetrics(registry)

        def series(name: str, text: str, labels: Iterable[str], unit: str = "") -> Series:
            return Series(Gauge(name, text, labels, unit=unit, registry=registry))

        self._ready = series("jobs_ready", "Due jobs that no worker has begun and no limit holds.", ("queue",))
        self._inflight = series("jobs_inflight", "Jobs that workers have claimed.", ("queue",))
        self._scheduled = series(
            "jobs_scheduled", "Jobs that wait for a later time; counted up to a bound.", ("queue",)
        )
        self._throttled = series(
            "jobs_throttled", "Due jobs held back by a limit or a pause, by its kind.", ("queue", "limit")
        )
        self._oldest = series(
            "queue_oldest_ready_seconds", "Wait of the oldest due job that no limit holds.", ("queue",), "seconds"
        )
        self._arrivals = series("queue_arrivals_per_second", "Jobs that become ready, moving average.", ("queue",))
        self._overdue = series(
            "jobs_overdue", "Jobs whose time has come but which the relay has not made available yet.", ("queue",)
        )
        self._discarded = series("jobs_discarded", "Dead letters; counted up to a bound.", ("queue",))
        self._rates = series(
            "node_permitted_rate",
            "Emails per second that a node's limits let through in the next minute, beyond what is on its way.",
            ("node",),
        )
        self._unknown = Gauge(
            "emails_unknown", "Emails of which nobody knows whether they went out; up to a bound.", registry=registry
        )
        self._published = Counter(
            "relay_published_jobs_total", "Jobs offered to workers through Redis.", ("queue",), registry=registry
        )
        self._rescued = Counter(
            "jobs_rescued_total", "Jobs whose worker died, or was stuck with them.", ("queue",), registry=registry
        )
        self._epochs = Counter(
            "relay_redis_epochs_total", "Times that Redis was found to have lost its data.", registry=registry
        )
        self._rounds = Histogram(
            "relay_round_seconds",
            "Time of one round of the relay's loop.",
            unit="seconds",
            buckets=ROUND_BUCKETS,
            registry=registry,
        )
        self._queues = Gauge("relay_queues", "Queues that this relay serves; 0 stands by.", registry=registry)
        lag = Gauge(
            "relay_lag_seconds", "Time since the relay's loop last went round.", unit="seconds", registry=registry
        )
        self._round_ended = clock.monotonic()
        lag.set_function(lambda: max(clock.monotonic() - self._round_ended, 0.0))

    def round(self, seconds: float) -> None:
        """The loop went round once."""
        self._rounds.observe(seconds)
        self._round_ended = clock.monotonic()

    def published(self, queue: str, jobs: int) -> None:
        """So many jobs of a queue were offered."""
        if jobs:
            self._published.labels(queue).inc(jobs)

    def settled(self, settled: Sequence[Settled]) -> None:
        """A rescue settled these jobs."""
        self._jobs.settled(settled)
        for queue, count in Count(one.job.queue for one in settled if one.accepted).items():
            self._rescued.labels(queue).inc(count)

    def epoch_changed(self) -> None:
        """Redis was restarted or flushed."""
        self._epochs.inc()

    def report(self, records: Mapping[str, Mapping[str, Any]], node_rates: Mapping[str, float]) -> None:
        """The relay's records of every queue that it serves, and what the nodes with waiting mail permit."""
        self._queues.set(len(records))
        for queue in records:  # from 0 on: Prometheus sees no increase in a series that begins with its first count
            self._published.labels(queue)
            self._rescued.labels(queue)
        self._ready.show(_each(records, lambda record: record["on_offer"] + record["held"]))
        self._inflight.show(_each(records, lambda record: record["running"]))
        self._scheduled.show(_each(records, lambda record: record["scheduled"]))
        self._oldest.show(_each(records, lambda record: record["oldest_seconds"]))
        self._arrivals.show(_each(records, lambda record: record["arrivals_per_second"]))
        self._throttled.show(
            {
                (queue, kind): count
                for queue, record in records.items()
                for kind, count in by_kind(record["throttled_by"]).items()
            }
        )
        self._rates.show({(node,): rate for node, rate in node_rates.items()})

    def counted(self, queues: Mapping[str, QueueCounts], emails_unknown: int) -> None:
        """What was counted in PostgreSQL, for every queue that this relay serves."""
        self._overdue.show({(queue,): counts.overdue for queue, counts in queues.items()})
        self._discarded.show({(queue,): counts.discarded for queue, counts in queues.items()})
        self._unknown.set(emails_unknown)

    def lost(self) -> None:
        """The relay serves no queue any more: PostgreSQL is away, and its locks with it."""
        self.report({}, {})
        for series in (self._overdue, self._discarded):
            series.show({})


def _each(
    records: Mapping[str, Mapping[str, Any]], value: Callable[[Mapping[str, Any]], float]
) -> dict[tuple[str, ...], float]:
    return {(queue,): value(record) for queue, record in records.items()}


def by_kind(throttled_by: Mapping[str, int]) -> dict[str, int]:
    """What the record calls limits and pauses, without any names: `tenant acme per_day` is `tenant_per_day`. Pure."""
    found: Count[str] = Count()
    for reason, jobs in throttled_by.items():
        found[_kind(reason)] += jobs
    return dict(found)


def _kind(reason: str) -> str:
    subject = reason.partition(" ")[0]
    if subject == "node":
        if " not open to tenant " in reason:
            return "node_not_open"
        if " suspended by " in reason:
            return "site_suspended"
        subject = "site" if " at " in reason else subject
    word = next((word for end, word in KINDS.items() if reason.endswith(end)), None)
    if word is None:
        return "other"
    return f"{subject if subject in SUBJECTS else 'batch'}_{word}"
