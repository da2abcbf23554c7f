"""Times of a bundle's jobs, observed at once."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Histogram, generate_latest

from postfleet_workers.jobs import Done, HandBack
from postfleet_workers.metrics.histogram import BundleHistogram
from postfleet_workers.metrics.worker import WAIT_BUCKETS, WorkerMetrics
from unit.making import NOON, make_job


@given(st.lists(st.one_of(st.sampled_from(WAIT_BUCKETS), st.floats(0, 1e6))))
def test_observing_a_bundle_is_observing_each_of_it(amounts: list[float]) -> None:
    one, other = CollectorRegistry(), CollectorRegistry()
    plain = Histogram("wait_seconds", "Wait.", ("queue",), buckets=WAIT_BUCKETS, registry=one)
    for amount in amounts:
        plain.labels("q").observe(amount)
    bundle = BundleHistogram("wait_seconds", "Wait.", ("queue",), buckets=WAIT_BUCKETS, registry=other)
    if amounts:
        bundle.labels("q").observe_all(amounts)
    expected, found = (
        {(s.name, s.labels.get("le")): s.value for metric in registry.collect() for s in metric.samples}
        for registry in (one, other)
    )
    assert found == pytest.approx(expected)


def test_a_job_waits_from_when_it_is_due_to_when_it_begins() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)
    with metrics.timing("probe") as ran:
        ran(make_job(run_at=NOON), NOON + timedelta(seconds=3), 0.25, Done())
        ran(make_job(run_at=NOON), NOON - timedelta(seconds=1), 0.5, Done())
        ran(make_job(run_at=NOON), NOON, 7.0, HandBack("not begun"))
    assert registry.get_sample_value("job_wait_seconds_count", {"queue": "campaign-standard"}) == 2
    assert registry.get_sample_value("job_wait_seconds_sum", {"queue": "campaign-standard"}) == 3, (
        "clocks differ a little"
    )
    assert registry.get_sample_value("job_run_seconds_count", {"type": "probe"}) == 2
    assert registry.get_sample_value("job_run_seconds_sum", {"type": "probe"}) == 0.75


def test_a_bundle_that_breaks_off_counts_what_ran() -> None:
    registry = CollectorRegistry()
    metrics = WorkerMetrics(registry)

    def run() -> None:
        with metrics.timing("probe") as ran:
            ran(make_job(), NOON, 0.25, Done())
            raise ValueError

    with pytest.raises(ValueError):
        run()
    assert registry.get_sample_value("job_run_seconds_count", {"type": "probe"}) == 1


def test_a_heartbeat_tells_the_threads() -> None:
    registry = CollectorRegistry()
    WorkerMetrics(registry).beat(5.0, 8, 3)
    page = generate_latest(registry).decode()
    assert "worker_threads 8.0" in page
    assert "worker_threads_busy 3.0" in page
