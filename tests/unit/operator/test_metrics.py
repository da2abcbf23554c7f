"""What the operator tells Prometheus, from a real autoscaler over the in-memory cluster."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from postfleet_operator.autoscaler import Autoscaler
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.metrics import GAP_SECONDS, MOST_UNSERVED, Metrics
from postfleet_operator.scaling.values import Bottleneck, Signal
from unit.operator.autoscaling import Signals
from unit.operator.building import healthy, load, lost, manifest, node_manifest

EMAIL = {"namespace": "default", "pool": "email", "node": "shared"}


class Scene:
    """An autoscaler that is observed; `value` reads what Prometheus would."""

    def __init__(self, *manifests: dict[str, Any]) -> None:
        self.registry = CollectorRegistry()
        self.metrics = Metrics(self.registry)
        self.cluster = MemoryCluster(instant=True)
        self.signals = Signals()
        self.now = 1000.0
        self.loop = Autoscaler(
            self.cluster,
            self.signals,
            self.signals,
            lambda: self.now,
            RenderSettings("registry/worker:1"),
            self.metrics.observe,
            self.metrics.forget,
        )
        for given in manifests:
            self.cluster.put(given)

    def look(self, signal: Signal, seconds: float = 2.0, key: str = "default/email") -> None:
        self.signals.told[key] = signal
        self.now += seconds
        self.loop.tick(self.now)

    def value(self, name: str, labels: dict[str, str] | None = None, **more: str) -> float | None:
        return self.registry.get_sample_value(name, {**(EMAIL if labels is None else labels), **more})

    def series(self) -> list[tuple[str, dict[str, str]]]:
        page = generate_latest(self.registry).decode()
        return [
            (sample.name, sample.labels)
            for family in text_string_to_metric_families(page)
            for sample in family.samples
            if not sample.name.startswith("process_")
        ]


def test_a_look_tells_the_work_the_workers_and_the_decision() -> None:
    scene = Scene(manifest())
    scene.look(healthy(2000, in_flight=40, throttled=7, oldest_seconds=3.5))
    scene.look(healthy(2000, in_flight=40, throttled=7, oldest_seconds=3.5))
    assert scene.value("jobpool_replicas", kind="desired") == 5
    assert scene.value("jobpool_replicas", kind="ready") == 5
    assert scene.value("jobpool_replicas_bound", bound="max") == 20
    assert scene.value("jobpool_backlog") == 2040
    assert scene.value("jobpool_jobs", state="ready") == 2000
    assert scene.value("jobpool_jobs", state="throttled") == 7
    assert scene.value("jobpool_oldest_seconds") == 3.5
    assert scene.value("jobpool_signal_healthy") == 1
    assert scene.value("jobpool_decisions_total", reason="Backlog") == 2
    assert scene.value("jobpool_scale_changes_total", direction="up") == 1
    assert scene.value("jobpool_scale_changes_total", direction="down") == 0


def test_one_bottleneck_is_1_and_the_others_are_0() -> None:
    scene = Scene(manifest(autoscaling={"maxReplicas": 2}))
    scene.look(healthy(5000))
    found = {b: scene.value("jobpool_bottleneck", bottleneck=b.value) for b in Bottleneck}
    assert found == {b: float(b is Bottleneck.MAX_REPLICAS) for b in Bottleneck}
    scene.look(lost())
    assert scene.value("jobpool_bottleneck", bottleneck="Signal") == 1
    assert scene.value("jobpool_bottleneck", bottleneck="MaxReplicas") == 0
    assert scene.value("jobpool_signal_healthy") == 0


def test_time_counts_as_the_look_before_it_was() -> None:
    scene = Scene(manifest(autoscaling={"maxReplicas": 2}))
    scene.look(healthy(5000))
    assert scene.value("jobpool_replica_seconds_total", policy="live") == 0
    scene.look(healthy(5000), 3)
    scene.look(healthy(0), 4)
    assert scene.value("jobpool_replica_seconds_total", policy="live") == 2 * 7
    assert scene.value("jobpool_undersized_seconds_total", policy="live") == 7, "10 were called for, maxReplicas is 2"


def test_a_pause_of_the_operator_counts_for_nobody() -> None:
    scene = Scene(manifest())
    scene.look(healthy(500))
    scene.look(healthy(500), GAP_SECONDS + 1)
    assert scene.value("jobpool_replica_seconds_total", policy="live") == 0
    scene.look(healthy(500), 2)
    assert scene.value("jobpool_replica_seconds_total", policy="live") == 2


def test_seconds_late_are_those_with_a_job_that_waited_longer_than_its_queue_may() -> None:
    target = {"latencySeconds": 5, "queues": [{"name": "priority-high", "latencySeconds": 2}]}
    scene = Scene(manifest(autoscaling={"target": target}))
    scene.look(load(waiting=10, oldest=1.9))
    scene.look(load(waiting=10, oldest=2.1))
    assert scene.value("jobpool_slo_miss_seconds_total") == 0
    scene.look(load(waiting=10, oldest=1.0), 3)
    assert scene.value("jobpool_slo_miss_seconds_total") == 3
    scene.look(load(waiting=0, oldest=9.0), 3)
    scene.look(load(waiting=0, oldest=9.0), 3)
    assert scene.value("jobpool_slo_miss_seconds_total") == 3, "nothing waits"


def test_a_shadow_policy_is_told_beside_the_live_one_until_it_is_taken_out() -> None:
    scene = Scene(manifest(autoscaling={"shadow": {"target": {"backlogPerReplica": 100}}}))
    scene.look(healthy(1000))
    scene.look(healthy(1000), 4)
    assert scene.value("jobpool_recommended_replicas", policy="live") == 2
    assert scene.value("jobpool_recommended_replicas", policy="shadow") == 10
    assert scene.value("jobpool_replica_seconds_total", policy="live") == 2 * 4
    assert scene.value("jobpool_replica_seconds_total", policy="shadow") == 10 * 4
    scene.cluster.put(manifest())
    scene.look(healthy(1000))
    assert [labels for _, labels in scene.series() if labels.get("policy") == "shadow"] == []
    assert scene.value("jobpool_recommended_replicas", policy="live") == 2


def test_a_deleted_pool_takes_its_series_along_and_nobody_elses() -> None:
    scene = Scene(manifest(), manifest("reports"))
    scene.look(healthy(500))
    assert {labels["pool"] for _, labels in scene.series() if "pool" in labels} == {"email", "reports"}
    scene.cluster.remove_resource("JobPool", "default/email")
    scene.look(healthy(0))
    assert {labels["pool"] for _, labels in scene.series() if "pool" in labels} == {"reports"}


def test_the_workers_of_a_dedicated_node_are_told_apart() -> None:
    node = node_manifest("acme-1", workers={"poolRef": {"name": "email"}, "placement": "Dedicated"})
    scene = Scene(manifest(), node)
    scene.look(healthy(1000), key="default/email@acme-1")
    assert scene.value("jobpool_backlog", node="acme-1") == 1000
    assert scene.value("jobpool_backlog") == 0
    scene.cluster.remove_resource("SendingNode", "default/acme-1")
    scene.look(healthy(0))
    assert {labels["node"] for _, labels in scene.series() if "node" in labels} == {"shared"}


def test_who_does_not_lead_tells_of_no_pool_and_no_node() -> None:
    scene = Scene(manifest())
    scene.metrics.leading(True)
    scene.look(healthy(500))
    scene.metrics.node("default", "acme-1", "Active")
    scene.metrics.unserved({"old": 3})
    assert scene.value("postfleet_operator_leader", {}) == 1
    scene.metrics.leading(False)
    assert scene.value("postfleet_operator_leader", {}) == 0
    scene.look(healthy(500))
    scene.metrics.node("default", "acme-1", "Active")
    scene.metrics.unserved({"old": 3})
    assert [labels for _, labels in scene.series() if labels] == []
    scene.metrics.leading(True)
    scene.look(healthy(500))
    assert scene.value("jobpool_backlog") == 500


def test_what_is_only_recommended_changes_nothing() -> None:
    scene = Scene(manifest(mode="Recommend"))
    scene.look(healthy(5000))
    scene.look(healthy(5000))
    assert scene.value("jobpool_recommended_replicas", policy="live") == 10
    assert scene.value("jobpool_scale_changes_total", direction="up") == 0


def test_a_node_is_in_one_phase() -> None:
    scene = Scene()
    scene.metrics.node("default", "acme-1", "Pending")
    scene.metrics.node("default", "acme-1", "Active")
    scene.metrics.node("default", "acme-1", "Active")
    assert [labels for name, labels in scene.series() if name == "sendingnode_phase"] == [
        {"namespace": "default", "node": "acme-1", "phase": "Active"}
    ]
    scene.metrics.forget_node("default", "acme-1")
    scene.metrics.forget_node("default", "acme-1")
    assert [name for name, _ in scene.series() if name == "sendingnode_phase"] == []


def test_queues_without_a_pool_come_and_go_and_are_never_too_many() -> None:
    scene = Scene()
    scene.metrics.unserved({"old": 3, "older": 1})
    scene.metrics.unserved({"old": 2})
    told = {labels["queue"] for name, labels in scene.series() if name == "jobs_unserved"}
    assert told == {"old"}
    assert scene.value("jobs_unserved", {"queue": "old"}) == 2
    scene.metrics.unserved({f"q{n}": n for n in range(1, MOST_UNSERVED + 11)})
    assert sum(name == "jobs_unserved" for name, _ in scene.series()) == MOST_UNSERVED + 1
    assert scene.value("jobs_unserved", {"queue": "other"}) == sum(range(1, 11))


def test_loops_and_calls_are_counted() -> None:
    scene = Scene()
    with scene.metrics.tick("autoscaler"):
        pass
    scene.metrics.api_call("patch", "deployments", 200)
    scene.metrics.api_call("patch", "deployments", None)
    assert scene.value("postfleet_operator_tick_seconds_count", {"loop": "autoscaler"}) == 1
    labels = {"verb": "patch", "resource": "deployments"}
    assert scene.value("postfleet_operator_api_calls_total", labels, code="200") == 1
    assert scene.value("postfleet_operator_api_calls_total", labels, code="none") == 1


def test_two_operators_in_one_process_do_not_share_their_metrics() -> None:
    one, other = Scene(manifest()), Scene(manifest())
    one.look(healthy(500))
    assert one.value("jobpool_backlog") == 500
    assert other.value("jobpool_backlog") is None
