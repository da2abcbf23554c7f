"""What `postfleet inbound` tells: mails that came back, by what they said, and what it turned away."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, ProcessCollector

KINDS = (
    "bounce", "delay", "delivered", "complaint", "repeated", "auto_reply", "not_spam", "unidentified", "unreadable",
    "unsubscribe", "other",
)  # fmt: skip
REFUSALS = ("address", "connections", "early", "postgresql")


class InboundMetrics:
    """Metrics of one process; any thread may count."""

    def __init__(self, registry: CollectorRegistry) -> None:
        ProcessCollector(registry=registry)
        self._reports = Counter(
            "inbound_reports_total", "Mails taken at return paths, by what they said.", ("kind",), registry=registry
        )
        self._refused = Counter(
            "inbound_refused_total",
            "What was turned away: addresses not ours, connections beyond the most, bounces of mail that is being sent "
            "yet, mail while PostgreSQL is away.",
            ("reason",),
            registry=registry,
        )
        self.connections = Gauge("inbound_connections", "Open SMTP connections.", registry=registry)
        for kind in KINDS:
            self._reports.labels(kind)
        for reason in REFUSALS:
            self._refused.labels(reason)

    def took(self, kind: str) -> None:
        """A mail was answered with 250."""
        self._reports.labels(kind).inc()

    def refused(self, reason: str) -> None:
        """Something was turned away."""
        self._refused.labels(reason).inc()
