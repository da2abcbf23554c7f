"""The loop over the in-memory cluster: what it does, what it leaves alone, what it says."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from postfleet_operator.autoscaler import RESYNC_SECONDS, Autoscaler
from postfleet_operator.cluster import BrokenPool, Workload
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.errors import ClusterUnavailable, NameTaken, Rejected
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Decision, Sample, Signal, Work
from postfleet_operator.spec import JobPool
from postfleet_operator.workerset import WorkerSet, worker_sets
from unit.operator.building import counted, healthy, load, lost, manifest, node_manifest

EMAIL = "default/email"


class Signals:
    """Says what a test told it to say; remembers who was asked for when."""

    def __init__(self) -> None:
        self.told: dict[str, Signal] = {}
        self.asked: list[tuple[float, list[str]]] = []
        self.fetched: dict[str, int] = {}

    def sample(self, sets: Sequence[WorkerSet], now: float) -> Mapping[str, Signal]:
        self.asked.append((now, [workers.name for workers in sets]))
        return {workers.key: self.told.get(workers.key, healthy(0)) for workers in sets}

    def in_flight(self, workers: WorkerSet) -> Mapping[str, int]:
        return self.fetched

    def look(self, now: float) -> Mapping[str, Work]:
        return {}


class Fleet:
    def __init__(self, *manifests: dict[str, Any]) -> None:
        self.cluster = MemoryCluster(instant=True)
        self.signals = Signals()
        self.decisions: list[tuple[str, Decision]] = []
        self.forgotten: list[str] = []
        self.now = 1000.0
        self.loop = Autoscaler(
            self.cluster,
            self.signals,
            self.signals,
            lambda: self.now,
            RenderSettings("registry/worker:1"),
            self._observe,
            self.forgotten.append,
        )
        for given in manifests:
            self.cluster.put(given)

    def _observe(self, workers: WorkerSet, sample: Sample, decision: Decision, shadow: Shadow | None) -> None:
        self.decisions.append((workers.key, decision))

    def pools(self) -> list[JobPool]:
        return [pool for pool in self.cluster.pools() if isinstance(pool, JobPool)]

    def pool(self) -> JobPool:
        return self.pools()[0]

    def tick(self, seconds: float = 2.0) -> float:
        self.now += seconds
        return self.loop.tick(self.now)

    def calls(self, name: str) -> int:
        return sum(call == name for call, _ in self.cluster.calls)

    def reasons(self) -> list[str]:
        return [event.reason.value for event in self.cluster.events]

    def condition(self, kind: str, key: str = EMAIL) -> tuple[str, str]:
        [found] = [c for c in self.cluster.status(key)["conditions"] if c["type"] == kind]
        return found["status"], found["reason"]


def test_a_new_pool_becomes_a_deployment_at_zero_and_grows_with_its_backlog() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    assert fleet.cluster.deployments[EMAIL]["metadata"]["name"] == "email"
    assert fleet.cluster.replicas(EMAIL) == 0
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 8
    assert fleet.cluster.status(EMAIL)["desiredReplicas"] == 8
    assert fleet.cluster.status(EMAIL)["readyReplicas"] == 8
    assert fleet.reasons() == ["ScaledFromZero"]


def test_it_goes_back_to_zero_after_the_cooldown() -> None:
    fleet = Fleet(manifest(autoscaling={"cooldownSeconds": 20}))
    fleet.signals.told[EMAIL] = healthy(1000)
    fleet.tick()
    fleet.signals.told[EMAIL] = healthy(0)
    for _ in range(12):
        fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 0
    held = [event.message.split()[0] for event in fleet.cluster.events if event.reason == "ScalingHeld"]
    assert held == ["ScaleDownWindow", "Cooldown"]
    rest = [reason for reason in fleet.reasons() if reason != "ScalingHeld"]
    assert rest == ["ScaledFromZero", "ScaledDown", "ScaledToZero"]


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


def test_a_pool_that_waits_for_its_deletion_is_left_alone() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    going = manifest()
    going["metadata"]["deletionTimestamp"] = "2026-11-24T12:00:00Z"
    fleet.cluster.put(going)
    fleet.cluster.deployments.clear()  # the garbage collector was quicker with these
    fleet.signals.told[EMAIL] = healthy(10_000)
    fleet.tick()
    assert fleet.cluster.deployments == {}
    assert fleet.forgotten == [EMAIL]


def test_a_pool_that_waits_for_its_deletion_leaves_its_queues_to_the_next() -> None:
    going = manifest("old")
    going["metadata"] |= {"deletionTimestamp": "2026-11-24T12:00:00Z", "creationTimestamp": "2026-01-01T00:00:00Z"}
    young = manifest()
    young["metadata"]["creationTimestamp"] = "2026-06-01T00:00:00Z"
    fleet = Fleet(going, young)
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick()
    assert fleet.cluster.replicas(EMAIL) == 8
    assert fleet.condition("QueuesExclusive") == ("True", "OwnQueues")


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


def test_a_pool_that_is_gone_is_forgotten() -> None:
    fleet = Fleet(manifest())
    fleet.tick()
    fleet.cluster.remove_resource("JobPool", EMAIL)
    fleet.tick()
    fleet.cluster.put(manifest())
    fleet.tick()
    assert fleet.calls("apply") == 2
    assert fleet.forgotten == [EMAIL]


def test_decisions_are_shown_to_who_watches() -> None:
    fleet = Fleet(manifest())
    fleet.signals.told[EMAIL] = healthy(4000)
    fleet.tick()
    [(name, decision)] = fleet.decisions
    assert (name, decision.before, decision.after) == (EMAIL, 0, 8)


def test_it_runs_until_it_is_told_to_stop() -> None:
    fleet = Fleet(manifest())
    stop, looked = threading.Event(), threading.Event()
    loop = Autoscaler(
        fleet.cluster, fleet.signals, fleet.signals, lambda: 0.0, RenderSettings("i"), lambda *_: looked.set()
    )
    thread = threading.Thread(target=loop.run, args=(stop,))
    thread.start()
    assert looked.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()


def replicas_over(fleet: Fleet, seconds: int) -> list[int]:
    found = []
    for _ in range(seconds // 2):
        fleet.tick()
        found.append(fleet.cluster.replicas(EMAIL))
    return found


def test_a_pool_that_only_recommends_says_what_it_would_do_and_does_nothing() -> None:
    fleet = Fleet(manifest(mode="Recommend"))
    fleet.signals.told[EMAIL] = healthy(4000)
    assert replicas_over(fleet, 10) == [0] * 5
    assert fleet.cluster.status(EMAIL)["desiredReplicas"] == 8
    assert fleet.calls("scale") == 0


def test_a_number_that_somebody_else_sets_is_released_once_and_left_alone() -> None:
    fleet = Fleet(manifest(mode="External"))
    fleet.tick()
    fleet.cluster.set_replicas(EMAIL, 7)
    fleet.signals.told[EMAIL] = healthy(0)
    assert replicas_over(fleet, 30) == [7] * 15
    assert (fleet.calls("release"), fleet.calls("scale")) == (1, 0)
    fleet.cluster.put(manifest(autoscaling={"minReplicas": 3, "cooldownSeconds": 0}))
    assert replicas_over(fleet, 20)[-1] == 3


def test_the_workers_with_the_fewest_jobs_go_first_and_of_these_the_youngest() -> None:
    fleet = Fleet(manifest())
    fleet.signals.told[EMAIL] = healthy(1500)
    fleet.tick()
    pods = [pod.name for pod in fleet.cluster.observe(WorkerSet(fleet.pool())).pods]
    fleet.signals.fetched = {pods[0]: 9, pods[1]: 0, pods[2]: 4}
    fleet.signals.told[EMAIL] = healthy(400)
    replicas_over(fleet, 12)
    assert fleet.cluster.first_to_go[EMAIL] == (pods[1], pods[2])
    assert [pod.name for pod in fleet.cluster.observe(WorkerSet(fleet.pool())).pods] == [pods[0]]


def test_a_dedicated_node_has_workers_of_its_own_scaled_by_its_own_work() -> None:
    own = "default/email@berlin"
    fleet = Fleet(manifest())
    fleet.cluster.put(node_manifest("berlin", workers={"poolRef": {"name": "email"}, "placement": "Dedicated"}))
    fleet.signals.told[own] = healthy(900)
    fleet.tick()
    assert (fleet.cluster.replicas(EMAIL), fleet.cluster.replicas(own)) == (0, 2)
    assert fleet.cluster.deployments[own]["metadata"]["name"] == "email-berlin"
    facts = fleet.loop.facts(own)
    assert facts is not None
    assert facts.decision is not None
    assert facts.decision.after == 2
    assert fleet.loop.facts("default/other") is None


def test_the_younger_of_two_pools_does_not_scale_on_a_queue_of_the_older() -> None:
    fleet = Fleet()
    old, young = manifest("old", queues=["a", "b"]), manifest("young", queues=["b", "c"])
    old["metadata"]["creationTimestamp"], young["metadata"]["creationTimestamp"] = "2026-01-01", "2026-02-01"
    fleet.cluster.put(young)
    fleet.cluster.put(old)
    sets = {workers.name: workers for workers in worker_sets(fleet.pools(), [])}
    assert sets["young"].own_queues == ("c",)
    assert sets["young"].taken == {"b": "default/old"}
    assert sets["old"].own_queues == ("a", "b")
    assert sets["young"].queues == ("b", "c")


def test_a_shadow_policy_is_decided_and_never_applied() -> None:
    fleet = Fleet(manifest(autoscaling={"shadow": {"target": {"backlogPerReplica": 100}}}))
    fleet.signals.told[EMAIL] = healthy(1000)
    assert replicas_over(fleet, 6) == [2, 2, 2]
    facts = fleet.loop.facts(EMAIL)
    assert facts is not None
    assert facts.shadow is not None
    assert facts.shadow.replicas == 10
    # Four seconds between its first and last look: the first saw none of either.
    assert facts.shadow.replica_seconds == pytest.approx(40)
    assert facts.shadow.live_replica_seconds == pytest.approx(8)


def test_what_the_status_remembers_survives_a_restart() -> None:
    given = manifest(worker={"threads": 1}, autoscaling={"target": {"latencySeconds": 5}})
    fleet = Fleet(given)
    fleet.cluster.statuses["JobPool", EMAIL] = {"throughputPerReplica": "10", "startupSeconds": "1.5"}
    fleet.signals.told[EMAIL] = load(waiting=100)
    fleet.tick()
    # 100 jobs within 5 - 1.5 s by 10 a second.
    assert fleet.cluster.replicas(EMAIL) == 3
