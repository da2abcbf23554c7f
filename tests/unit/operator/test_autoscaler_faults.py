"""The loop where something fails: a pool, the API server, the signal, the clock. The others go on."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from postfleet_operator.autoscaler import Autoscaler
from postfleet_operator.cluster import BrokenPool, Workload
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.errors import ClusterUnavailable, NameTaken, Rejected
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.workerset import WorkerSet
from unit.operator.autoscaling import EMAIL, Fleet, Signals
from unit.operator.building import counted, healthy, lost, manifest


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (NameTaken("a Deployment email belongs to Helm"), "NameTaken"),
        (Rejected("image: invalid"), "Rejected"),
        (ClusterUnavailable("connection refused"), "ClusterUnavailable"),
    ],
)
def test_a_pool_that_fails_is_reported_once_and_stops_no_other(failure: Any, reason: str) -> None:
    fleet = Fleet(manifest("bad"), manifest())
    fleet.cluster.failures["default/bad"] = failure
    fleet.signals.told[EMAIL] = healthy(500)
    fleet.tick()
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 1
    assert fleet.condition("Ready", "default/bad") == ("False", reason)
    assert fleet.condition("ScalingActive", "default/bad") == ("False", reason)
    assert fleet.reasons().count("ApplyFailed") == 1
    del fleet.cluster.failures["default/bad"]
    fleet.tick()
    assert fleet.condition("Ready", "default/bad") == ("True", "ScaledToZero")


def test_a_defect_met_by_one_pool_stops_no_other() -> None:
    class Defective(MemoryCluster):
        def observe(self, workers: WorkerSet) -> Any:
            if workers.name == "bad":
                raise ZeroDivisionError
            return super().observe(workers)

    fleet = Fleet()
    fleet.cluster = Defective(instant=True)
    fleet.loop = Autoscaler(fleet.cluster, fleet.signals, fleet.signals, lambda: fleet.now, RenderSettings("i"))
    fleet.cluster.put(manifest("bad"))
    fleet.cluster.put(manifest())
    fleet.signals.told[EMAIL] = healthy(500)
    fleet.tick()
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 1
    assert fleet.condition("Ready", "default/bad") == ("False", "OperatorFailed")
    assert fleet.reasons().count("ApplyFailed") == 1


def test_a_change_that_failed_does_not_count_against_the_policy() -> None:
    class Refusing(MemoryCluster):
        refuses = False

        def scale(self, workers: WorkerSet, replicas: int, first_to_go: Sequence[str] = ()) -> None:
            if self.refuses:
                raise ClusterUnavailable("503")
            super().scale(workers, replicas, first_to_go)

    four = [{"type": "Pods", "value": 4, "periodSeconds": 600}]
    fleet = Fleet()
    fleet.cluster = cluster = Refusing(instant=True)
    fleet.loop = Autoscaler(fleet.cluster, fleet.signals, fleet.signals, lambda: fleet.now, RenderSettings("i"))
    cluster.put(manifest(autoscaling={"scaleUp": {"policies": four}}))
    fleet.signals.told[EMAIL] = healthy(10_000)
    cluster.refuses = True
    fleet.tick()
    assert cluster.replicas(EMAIL) == 0
    assert "desiredReplicas" not in cluster.status(EMAIL)
    cluster.refuses = False
    fleet.tick()
    assert cluster.replicas(EMAIL) == 4
    fleet.tick()
    assert cluster.replicas(EMAIL) == 4


def test_a_clock_that_is_set_back_stops_nothing() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick(-3600)
    assert fleet.cluster.replicas(EMAIL) == 8


def test_a_pool_that_cannot_be_read_says_why_and_keeps_its_workers() -> None:
    fleet = Fleet(manifest())
    fleet.signals.told[EMAIL] = healthy(500)
    fleet.tick()
    fleet.cluster.put(manifest(queues=["A", "A"], worker={"threads": 0}))
    assert isinstance(fleet.cluster.pools()[0], BrokenPool)
    fleet.tick()
    fleet.tick()
    assert fleet.condition("Ready") == ("False", "InvalidSpec")
    assert fleet.condition("SignalHealthy") == ("True", "FreshRecord")
    assert "threads: 0 is out of range" in fleet.cluster.events[-1].message
    assert (fleet.cluster.replicas(EMAIL), fleet.reasons().count("InvalidSpec")) == (1, 1)
    fleet.cluster.put(manifest())
    fleet.tick()
    assert fleet.condition("Ready") == ("True", "WorkersReady")


def test_a_lost_signal_holds_the_pool_and_is_told_when_it_turns() -> None:
    fleet = Fleet(manifest(autoscaling={"cooldownSeconds": 0}))
    fleet.signals.told[EMAIL] = healthy(2000)
    fleet.tick()
    for signal in (lost(), lost(), counted(9000), counted(0), lost()):
        fleet.signals.told[EMAIL] = signal
        fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 18
    assert fleet.condition("SignalHealthy") == ("False", "NoSignal")
    fleet.signals.told[EMAIL] = healthy(9000)
    fleet.tick()
    told = [reason for reason in fleet.reasons() if reason != "ScalingHeld"]
    assert told == ["ScaledFromZero", "SignalLost", "ScaledUp", "SignalRestored"]


def test_pools_that_cannot_be_listed_are_tried_again() -> None:
    class Away(MemoryCluster):
        def pools(self) -> Any:
            raise ClusterUnavailable("connection refused")

    loop = Autoscaler(Away(), Signals(), Signals(), lambda: 0.0, RenderSettings("i"))
    assert loop.tick(0.0) == 1.0


def test_a_pool_that_the_api_server_keeps_waiting_does_not_keep_the_others_waiting() -> None:
    answered = threading.Event()

    class Slow(MemoryCluster):
        def observe(self, workers: WorkerSet) -> Workload:
            if workers.name == "email":
                assert answered.wait(10)
            else:
                answered.set()
            return super().observe(workers)

    cluster = Slow(instant=True)
    for name in ("email", "import"):
        cluster.put(manifest(name=name))
    signals = Signals()
    loop = Autoscaler(cluster, signals, signals, lambda: 5.0, RenderSettings("i"), at_once=2)
    loop.tick(0.0)
    assert set(cluster.deployments) == {EMAIL, "default/import"}
    assert loop.ticked_at == 5.0, "which is no standstill"


def test_words_that_the_api_server_keeps_waiting_keep_no_number_waiting_and_none_is_lost() -> None:
    listening = threading.Event()

    class Slow(MemoryCluster):
        def patch_status(self, resource: Any, status: Mapping[str, Any]) -> None:
            assert listening.wait(10)
            super().patch_status(resource, status)

    cluster, signals, stop = Slow(instant=True), Signals(), threading.Event()
    cluster.put(manifest())
    loop = Autoscaler(cluster, signals, signals, lambda: 0.0, RenderSettings("i"), at_once=2)
    for now, backlog in ((0.0, 0), (2.0, 4000), (4.0, 4000), (6.0, 9000), (8.0, 9000)):
        signals.told[EMAIL] = healthy(backlog)
        loop.tick(now)
    assert cluster.replicas(EMAIL) == 18
    listening.set()
    stop.set()
    loop.run(stop)
    assert [event.reason for event in cluster.events] == ["ScaledFromZero", "ScaledUp"]
    recent = [(each["from"], each["to"]) for each in cluster.status(EMAIL)["recentDecisions"]]
    assert recent == [(8, 18), (0, 8)]


def test_what_is_only_recommended_is_not_kept_for_a_server_that_does_not_listen() -> None:
    listening = threading.Event()

    class Deaf(MemoryCluster):
        def patch_status(self, resource: Any, status: Mapping[str, Any]) -> None:
            assert listening.wait(10)
            super().patch_status(resource, status)

    cluster, signals, stop = Deaf(instant=True), Signals(), threading.Event()
    cluster.put(manifest(mode="Recommend"))
    loop = Autoscaler(cluster, signals, signals, lambda: 0.0, RenderSettings("i"), at_once=2)
    signals.told[EMAIL] = healthy(4000)
    for look in range(50):
        loop.tick(2.0 * look)
    listening.set()
    stop.set()
    loop.run(stop)
    assert 1 <= sum(call == "patch_status" for call, _ in cluster.calls) <= 3
    assert cluster.status(EMAIL)["desiredReplicas"] == 8
