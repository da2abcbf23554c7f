"""Counts what became of jobs and emails, where their outcomes are written: in workers, and in the relay's rescue."""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, disable_created_metrics

from postfleet_workers.jobs import HandBack, Settled, Snooze
from postfleet_workers.mail import sites
from postfleet_workers.mail.replies.classify import is_fallback
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.states import State

# A second series for the time when a counter was made, for each one, is more than it is worth.
disable_created_metrics()  # type: ignore[no-untyped-call]

# Job types may make up kinds of snoozes; those beyond so many are counted together.
MOST_KINDS = 20
OTHER = "other"


class JobMetrics:
    """Counters of outcomes. `settled` is called once they are committed, from any thread."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._kinds: set[str] = set()
        self._completed = Counter(
            "jobs_completed_total", "Jobs that did what they are for.", ("queue", "type"), registry=registry
        )
        self._failed = Counter(
            "jobs_failed_total",
            "Failed attempts: another follows (retryable), or none (discarded).",
            ("queue", "type", "outcome"),
            registry=registry,
        )
        self._snoozed = Counter(
            "jobs_snoozed_total",
            "Jobs put back to a later time without using up an attempt.",
            ("reason",),
            registry=registry,
        )
        self._sent = Counter(
            "emails_sent_total", "Emails that a receiving server took.", ("node", "site"), registry=registry
        )
        self._deferred = Counter(
            "emails_deferred_total",
            "Delivery attempts put off by a 4xx, an unreachable server or a refusal of us, by what that was about.",
            ("node", "site", "scope"),
            registry=registry,
        )
        self._bounced = Counter(
            "emails_bounced_total",
            "Emails refused for good or deferred for too long, by what that was about.",
            ("node", "site", "scope"),
            registry=registry,
        )
        self._unmatched = Counter(
            "emails_replies_unmatched_total",
            "Refusals that no rule of the classifier knows, by the command that they answered.",
            ("site", "phase"),
            registry=registry,
        )

    def settled(self, settled: Sequence[Settled]) -> None:
        """These outcomes were committed; a fenced-out one changed nothing and does not count."""
        accepted = [one for one in settled if one.accepted]
        for (state, queue, kind), count in Count((s.state, s.job.queue, s.job.type) for s in accepted).items():
            match state:
                case State.COMPLETED:
                    self._completed.labels(queue, kind).inc(count)
                case State.RETRYABLE | State.DISCARDED:
                    self._failed.labels(queue, kind, str(state)).inc(count)
        snoozes = Count(
            s.outcome.kind for s in accepted if isinstance(s.outcome, Snooze) and s.state == State.SCHEDULED
        )
        for reason, count in snoozes.items():
            self._snoozed.labels(self._bounded(reason)).inc(count)
        self._emails(accepted)

    def _emails(self, accepted: Sequence[Settled]) -> None:
        records = [
            s.outcome.record
            for s in accepted
            if not isinstance(s.outcome, HandBack) and isinstance(s.outcome.record, MailRecord)
        ]
        counts = Count((record.status, record.node, record.site, record.scope) for record in records)
        for (status, node, site, scope), count in counts.items():
            match status:
                case Status.SENT:
                    self._sent.labels(node, _site(site)).inc(count)
                case Status.DEFERRED:
                    self._deferred.labels(node, _site(site), scope or OTHER).inc(count)
                case Status.BOUNCED:
                    self._bounced.labels(node, _site(site), scope or OTHER).inc(count)
        unmatched = Count((record.site, record.phase) for record in records if is_fallback(record.rule))
        for (site, phase), count in unmatched.items():
            self._unmatched.labels(_site(site), phase).inc(count)

    def _bounded(self, kind: str) -> str:
        if kind not in self._kinds and len(self._kinds) >= MOST_KINDS:
            return OTHER
        self._kinds.add(kind)
        return kind


def _site(site: str) -> str:
    """A site as a label: those without a name, of which there is no end, and those not looked up count together."""
    return sites.label(site) or OTHER
