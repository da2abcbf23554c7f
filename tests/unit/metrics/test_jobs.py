"""What became of jobs and emails, as Prometheus sees it."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from postfleet_workers.jobs import Done, HandBack, Outcome, Permanent, Settled, Snooze, Transient
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.metrics.jobs import MOST_KINDS, JobMetrics
from postfleet_workers.states import State
from unit.making import make_job

PROBE = {"queue": "campaign-standard", "type": "probe"}


class Told:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.metrics = JobMetrics(self.registry)

    def settle(self, outcome: Outcome, state: State, accepted: bool = True, count: int = 1) -> None:
        one = Settled(make_job(), outcome, accepted, state if accepted else "", None, "w")
        self.metrics.settled([one] * count)

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0

    def series(self) -> int:
        return sum(len(metric.samples) for metric in self.registry.collect())


def mail(status: Status, scope: str = "", site: str = "", rule: str = "") -> MailRecord:
    return MailRecord("acme-1", "dot", status, "250 ok", scope=scope, site=site, rule=rule)


def test_outcomes_count_by_the_state_that_the_row_got() -> None:
    told = Told()
    told.settle(Done(), State.COMPLETED, count=3)
    told.settle(Transient("no"), State.RETRYABLE)
    told.settle(Transient("no"), State.DISCARDED)
    told.settle(Permanent("never"), State.DISCARDED)
    told.settle(Snooze(5, "later"), State.SCHEDULED)
    assert told.value("jobs_completed_total", **PROBE) == 3
    assert told.value("jobs_failed_total", **PROBE, outcome="retryable") == 1
    assert told.value("jobs_failed_total", **PROBE, outcome="discarded") == 2
    assert told.value("jobs_snoozed_total", reason="job") == 1


@pytest.mark.parametrize(
    ("outcome", "state", "accepted"),
    [
        pytest.param(Done(mail(Status.SENT)), State.COMPLETED, False, id="fenced out"),
        pytest.param(HandBack("stopping"), State.AVAILABLE, True, id="handed back"),
        pytest.param(Snooze(5, "later"), State.CANCELLED, True, id="cancelled while it ran"),
        pytest.param(Permanent("its worker died"), State.AVAILABLE, True, id="rescued"),
    ],
)
def test_what_changed_nothing_does_not_count(outcome: Outcome, state: State, accepted: bool) -> None:
    told = Told()
    told.settle(outcome, state, accepted)
    assert told.series() == 0


@pytest.mark.parametrize(
    ("outcome", "state", "name", "labels"),
    [
        pytest.param(Done(mail(Status.SENT)), State.COMPLETED, "emails_sent_total", {}, id="sent"),
        pytest.param(
            Snooze(300, "4xx", mail(Status.DEFERRED, "recipient"), kind="deferred"),
            State.SCHEDULED,
            "emails_deferred_total",
            {"scope": "recipient"},
            id="deferred",
        ),
        pytest.param(
            Done(mail(Status.BOUNCED, "message")),
            State.COMPLETED,
            "emails_bounced_total",
            {"scope": "message"},
            id="bounced",
        ),
        pytest.param(
            Done(mail(Status.BOUNCED)), State.COMPLETED, "emails_bounced_total", {"scope": "other"}, id="no scope"
        ),
    ],
)
def test_emails_count_by_node(outcome: Outcome, state: State, name: str, labels: dict[str, Any]) -> None:
    told = Told()
    told.settle(outcome, state, count=2)
    assert told.value(name, node="acme-1", site="other", **labels) == 2


@pytest.mark.parametrize(("site", "label"), [("gmail", "gmail"), ("mx:mx.b.example", "other"), ("", "other")])
def test_emails_count_by_the_sites_that_have_a_name(site: str, label: str) -> None:
    told = Told()
    told.settle(Done(mail(Status.SENT, site=site)), State.COMPLETED)
    told.settle(Done(mail(Status.BOUNCED, "message", site=site)), State.COMPLETED)
    assert told.value("emails_sent_total", node="acme-1", site=label) == 1
    assert told.value("emails_bounced_total", node="acme-1", site=label, scope="message") == 1


def test_replies_that_no_rule_knows_are_counted() -> None:
    told = Told()
    told.settle(Done(mail(Status.BOUNCED, "recipient", "gmail", "fallback:rcpt")), State.COMPLETED, count=2)
    told.settle(Done(mail(Status.BOUNCED, "recipient", "gmail", "recipient.unknown")), State.COMPLETED)
    told.settle(Done(mail(Status.SENT, site="gmail")), State.COMPLETED)
    assert told.value("emails_replies_unmatched_total", site="gmail", phase="dot") == 2


def test_kinds_of_snoozes_are_never_too_many() -> None:
    told = Told()
    for number in range(MOST_KINDS + 10):
        told.settle(Snooze(5, "later", kind=f"kind {number}"), State.SCHEDULED)
    assert told.series() == MOST_KINDS + 1
    assert told.value("jobs_snoozed_total", reason="other") == 10
