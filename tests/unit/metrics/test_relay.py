"""What the relay tells: only the queues that it serves, limits without anybody's name."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from postfleet_workers.metrics.relay import QueueCounts, RelayMetrics, by_kind
from postfleet_workers.relay.gate import Rules, node
from postfleet_workers.relay.gauges import node_rates


def record(**changes: Any) -> dict[str, Any]:
    return {
        "on_offer": 0, "held": 0, "running": 0, "scheduled": 0, "oldest_seconds": 0.0, "arrivals_per_second": 0.0,
        "throttled_by": {}, **changes,
    }  # fmt: skip


def queues(registry: CollectorRegistry) -> set[str]:
    """Those that gauges tell of; what was counted stays."""
    samples = [sample for metric in registry.collect() if metric.type == "gauge" for sample in metric.samples]
    return {sample.labels["queue"] for sample in samples if "queue" in sample.labels}


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("node acme-1 per_minute", "node_per_minute"),
        ("node acme-1 per_day", "node_per_day"),
        ("node acme-1 maxConnections", "node_max_connections"),
        ("node acme-1 paused", "node_paused"),
        ("node acme-1 unknown", "node_unknown"),
        ("node acme-1 has an invalid spec", "node_invalid"),
        ("node acme-1 not open to tenant per_day paused", "node_not_open"),
        ("tenant Ann's per_day shop per_hour", "tenant_per_hour"),
        ("tenant acme paused", "tenant_paused"),
        ("tenant acme has an invalid row", "tenant_invalid"),
        ("queue warmup paused", "queue_paused"),
        ("campaign 7 paused", "batch_paused"),
        ("campaign 7 per_minute", "batch_per_minute"),
        ("node acme-1 warmup", "node_warmup"),
        ("node acme-1 at gmail per_minute", "site_per_minute"),
        ("node acme-1 at partner.example maxConnections", "site_max_connections"),
        ("node acme-1 at gmail slowed per_minute", "site_slowed"),
        ("node acme-1 at gmail suspended by gmail.reputation", "site_suspended"),
        ("import of node paused", "batch_paused"),
        ("limit", "other"),
    ],
)
def test_limits_are_told_by_kind_alone(reason: str, kind: str) -> None:
    assert by_kind({reason: 3}) == {kind: 3}


def test_limits_of_one_kind_add_up() -> None:
    assert by_kind({"tenant a per_day": 3, "tenant b per_day": 4}) == {"tenant_per_day": 7}


def test_a_queue_that_the_relay_serves_no_more_is_told_no_more() -> None:
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    metrics.report(
        {"bulk": record(on_offer=3, held=4, throttled_by={"tenant a paused": 2}), "retry": record()}, {"acme-1": 2.5}
    )
    metrics.counted({"bulk": QueueCounts(1, 2), "retry": QueueCounts(0, 0)}, 5)
    assert registry.get_sample_value("jobs_ready", {"queue": "bulk"}) == 7
    assert registry.get_sample_value("jobs_throttled", {"queue": "bulk", "limit": "tenant_paused"}) == 2
    assert registry.get_sample_value("jobs_overdue", {"queue": "bulk"}) == 1
    assert registry.get_sample_value("jobs_discarded", {"queue": "bulk"}) == 2
    assert registry.get_sample_value("node_permitted_rate", {"node": "acme-1"}) == 2.5
    assert registry.get_sample_value("emails_unknown") == 5
    assert registry.get_sample_value("relay_queues") == 2
    metrics.report({"retry": record()}, {})
    metrics.counted({"retry": QueueCounts(0, 0)}, 5)
    assert queues(registry) == {"retry"}
    assert registry.get_sample_value("node_permitted_rate", {"node": "acme-1"}) is None
    metrics.lost()
    assert queues(registry) == set()
    assert registry.get_sample_value("relay_queues") == 0


def test_a_limit_that_holds_nobody_any_more_is_gone() -> None:
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    metrics.report({"bulk": record(throttled_by={"node a per_day": 2})}, {})
    metrics.report({"bulk": record()}, {})
    assert registry.get_sample_value("jobs_throttled", {"queue": "bulk", "limit": "node_per_day"}) is None


def test_the_lag_grows_until_the_loop_goes_round(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("postfleet_workers.clock.monotonic", lambda: now)
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    now = 107.0
    assert registry.get_sample_value("relay_lag_seconds") == 7
    metrics.round(0.01)
    assert registry.get_sample_value("relay_lag_seconds") == 0
    assert registry.get_sample_value("relay_round_seconds_count") == 1


def test_a_nodes_rate_is_its_tightest_limits() -> None:
    spec = {"limits": {"perMinute": 60, "perHour": 600, "maxConnections": 5}}
    rules = Rules(nodes={"a": node("a", spec, paused=False), "b": node("b", spec, paused=True)})
    plan = {limit.key: count for limit, count in zip(rules.nodes["a"].limits, (60, 30), strict=True)}
    assert node_rates(rules, plan) == {"a": 0.5}, "nobody asked for b, no mail of it waits"
    plan |= {limit.key: 60 for limit in rules.nodes["b"].limits}
    assert node_rates(rules, plan) == {"a": 0.5, "b": 0.0}
    plan |= {rules.nodes["a"].sessions.key: 6}
    assert node_rates(rules, plan)["a"] == 0.1


def test_counts_of_a_queue_begin_at_zero() -> None:
    registry = CollectorRegistry()
    metrics = RelayMetrics(registry)
    metrics.report({"bulk": record()}, {})
    assert registry.get_sample_value("jobs_rescued_total", {"queue": "bulk"}) == 0
    assert registry.get_sample_value("relay_published_jobs_total", {"queue": "bulk"}) == 0
    metrics.published("bulk", 3)
    metrics.report({"bulk": record()}, {})
    assert registry.get_sample_value("relay_published_jobs_total", {"queue": "bulk"}) == 3
