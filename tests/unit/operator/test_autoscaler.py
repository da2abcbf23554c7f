"""The loop over the in-memory cluster: what it does, what it leaves alone, what it says."""

from __future__ import annotations

import threading

import pytest

from postfleet_operator.autoscaler import RESYNC_SECONDS, Autoscaler
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.workerset import WorkerSet, worker_sets
from unit.operator.autoscaling import EMAIL, Fleet
from unit.operator.building import healthy, load, manifest, node_manifest


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
