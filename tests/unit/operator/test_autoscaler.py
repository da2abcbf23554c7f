"""The loop over the in-memory cluster: what it does, what it leaves alone, what it says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from postfleet_operator.autoscaler import RESYNC_SECONDS, Autoscaler
from postfleet_operator.cluster import BrokenPool
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.errors import ClusterUnavailable, NameTaken, Rejected
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.scaling.values import Decision, Sample, Signal
from postfleet_operator.spec import JobPool
from unit.operator.building import counted, healthy, lost, manifest

EMAIL = "default/email"


class Signals:
    """Says what a test told it to say; remembers who was asked for when."""

    def __init__(self) -> None:
        self.told: dict[str, Signal] = {}
        self.asked: list[tuple[float, list[str]]] = []

    def sample(self, pools: Sequence[JobPool], now: float) -> Mapping[str, Signal]:
        self.asked.append((now, [pool.name for pool in pools]))
        return {pool.key: self.told.get(pool.key, healthy(0)) for pool in pools}


class Fleet:
    def __init__(self, *manifests: dict[str, Any]) -> None:
        self.cluster = MemoryCluster(instant=True)
        self.signals = Signals()
        self.decisions: list[tuple[str, Decision]] = []
        self.now = 1000.0
        self.loop = Autoscaler(
            self.cluster, self.signals, lambda: self.now, RenderSettings("registry/worker:1"), self._observe
        )
        for given in manifests:
            self.cluster.put(given)

    def _observe(self, pool: JobPool, sample: Sample, decision: Decision) -> None:
        self.decisions.append((pool.name, decision))

    def tick(self, seconds: float = 2.0) -> float:
        self.now += seconds
        return self.loop.tick(self.now)

    def calls(self, name: str) -> int:
        return sum(call == name for call, _ in self.cluster.calls)

    def reasons(self) -> list[str]:
        return [event.reason.value for event in self.cluster.events]

    def condition(self, kind: str, key: str = EMAIL) -> tuple[str, str]:
        [found] = [c for c in self.cluster.statuses[key]["conditions"] if c["type"] == kind]
        return found["status"], found["reason"]


def test_a_new_pool_becomes_a_deployment_at_zero_and_grows_with_its_backlog() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    assert fleet.cluster.deployments[EMAIL]["metadata"]["name"] == "email"
    assert fleet.cluster.replicas(EMAIL) == 0
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 8
    assert fleet.cluster.statuses[EMAIL]["desiredReplicas"] == 8
    assert fleet.cluster.statuses[EMAIL]["readyReplicas"] == 8
    assert fleet.reasons() == ["ScaledFromZero"]


def test_it_goes_back_to_zero_after_the_cooldown() -> None:
    fleet = Fleet(manifest(autoscaling={"cooldownSeconds": 20}))
    fleet.signals.told[EMAIL] = healthy(1000)
    fleet.tick()
    fleet.signals.told[EMAIL] = healthy(0)
    for _ in range(12):
        fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 0
    assert fleet.reasons() == ["ScaledFromZero", "ScaledDown", "ScaledToZero"]


def test_nothing_is_done_twice() -> None:
    fleet = Fleet(manifest())
    fleet.signals.told[EMAIL] = healthy(1000)
    for _ in range(10):
        fleet.tick()
    assert (fleet.calls("apply"), fleet.calls("scale"), len(fleet.cluster.events)) == (1, 1, 1)
    assert fleet.calls("patch_status") <= 3


def test_an_edit_takes_effect_at_once_and_only_what_changed_is_applied() -> None:
    fleet = Fleet(manifest(autoscaling={"pollingIntervalSeconds": 300}))
    fleet.tick()
    fleet.cluster.put(manifest(autoscaling={"pollingIntervalSeconds": 300, "minReplicas": 2}))
    fleet.tick(1.0)
    assert (fleet.cluster.replicas(EMAIL), fleet.calls("apply")) == (2, 1)
    fleet.cluster.put(manifest(autoscaling={"pollingIntervalSeconds": 300, "minReplicas": 2}, worker={"threads": 8}))
    fleet.tick(1.0)
    assert fleet.calls("apply") == 2
    assert "--threads=8" in str(fleet.cluster.deployments[EMAIL])


def test_a_deployment_that_vanished_or_may_have_been_changed_is_applied_again() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    del fleet.cluster.deployments[EMAIL]
    fleet.tick()
    assert fleet.calls("apply") == 2
    fleet.tick(RESYNC_SECONDS)
    assert fleet.calls("apply") == 3


def test_each_pool_is_looked_at_in_its_own_time_and_all_that_are_due_at_once() -> None:
    fleet = Fleet(
        manifest("quick", autoscaling={"pollingIntervalSeconds": 1}),
        manifest("slow", autoscaling={"pollingIntervalSeconds": 4}),
    )
    for _ in range(5):
        fleet.tick(1.0)
    assert [names for _, names in fleet.signals.asked] == [
        ["quick", "slow"], ["quick"], ["quick"], ["quick"], ["quick", "slow"],
    ]  # fmt: skip


def test_the_next_look_is_when_the_next_pool_is_due_or_a_new_one_may_have_come() -> None:
    assert Fleet().tick() == 1.0
    assert Fleet(manifest(autoscaling={"pollingIntervalSeconds": 300})).tick() == 1.0
    fleet = Fleet(manifest(autoscaling={"pollingIntervalSeconds": 2}))
    fleet.tick()
    assert fleet.tick(1.5) == pytest.approx(0.5)


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
        def observe(self, pool: JobPool) -> Any:
            if pool.name == "bad":
                raise ZeroDivisionError
            return super().observe(pool)

    fleet = Fleet()
    fleet.cluster = Defective(instant=True)
    fleet.loop = Autoscaler(fleet.cluster, fleet.signals, lambda: fleet.now, RenderSettings("i"))
    fleet.cluster.put(manifest("bad"))
    fleet.cluster.put(manifest())
    fleet.signals.told[EMAIL] = healthy(500)
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 1


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
    assert fleet.reasons() == ["ScaledFromZero", "SignalLost", "ScaledUp", "SignalRestored"]


def test_pools_that_cannot_be_listed_are_tried_again() -> None:
    class Away(MemoryCluster):
        def pools(self) -> Any:
            raise ClusterUnavailable("connection refused")

    loop = Autoscaler(Away(), Signals(), lambda: 0.0, RenderSettings("i"))
    assert loop.tick(0.0) == 1.0


def test_a_pool_that_is_gone_is_forgotten() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    fleet.cluster.remove(EMAIL)
    fleet.tick()
    fleet.cluster.put(manifest())
    fleet.tick()
    assert fleet.calls("apply") == 2


def test_decisions_are_shown_to_who_watches() -> None:
    fleet = Fleet(manifest())
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick()
    [(name, decision)] = fleet.decisions
    assert (name, decision.before, decision.after) == ("email", 0, 8)


def test_it_runs_until_it_is_told_to_stop() -> None:
    fleet = Fleet(manifest())
    stop, looked = threading.Event(), threading.Event()
    loop = Autoscaler(fleet.cluster, fleet.signals, lambda: 0.0, RenderSettings("i"), lambda *_: looked.set())
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    assert looked.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
