"""What `postfleet web` tells: requests by what they were for, and what readers did."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector


class WebMetrics:
    """Metrics of one process; any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "web_requests_total", "Requests answered, by what they were for.", ("endpoint", "status"), registry=registry
        )
        self._events = Counter(
            "email_events_total",
            "What readers and their machines did with mail, once each.",
            ("kind", "machine"),
            registry=registry,
        )
        self._lost = Counter("web_events_lost_total", "Opens and clicks that could not be written.", registry=registry)
        self.waiting = Gauge("web_events_waiting", "Opens and clicks not written yet.", registry=registry)
        # From 0 on: Prometheus sees no increase in a series that begins with its first count.
        self._requests.labels("unsubscribe", "503")
        for kind in ("open", "click"):
            for machine in (False, True):
                self._events.labels(kind, _word(machine))
        self._events.labels("unsubscribe", _word(False))

    def answered(self, endpoint: str, status: int) -> None:
        """A request has its answer."""
        self._requests.labels(endpoint, str(status)).inc()

    def written(self, events: Iterable[tuple[str, bool]]) -> None:
        """These events, as kind and machine, were committed for the first time."""
        for (kind, machine), count in Count(events).items():
            self._events.labels(kind, _word(machine)).inc(count)

    def lost(self, count: int) -> None:
        """So many opens and clicks are lost."""
        self._lost.inc(count)


def _word(machine: bool) -> str:
    return "true" if machine else "false"
