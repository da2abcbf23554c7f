"""Pools on a real API server: what becomes of a manifest, of a backlog, and of what people do beside the operator."""

from __future__ import annotations

import pytest
from cluster_worlds import World
from operators import eventually, pool

BACKLOG = {"target": {"backlogPerReplica": 100}, "scaleDown": {"stabilizationWindowSeconds": 0}, "cooldownSeconds": 0}


def test_a_pool_becomes_a_deployment_that_follows_its_backlog(world: World) -> None:
    world.backlog(0)
    world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(0)
    deployment = world.get("deployment", "email")
    assert deployment is not None
    owner = deployment["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("JobPool", "email", True)
    world.backlog(450)
    world.scaled(5)
    eventually(lambda: world.status().get("desiredReplicas"), lambda found: found == 5)
    eventually(lambda: world.reasons("email"), lambda found: "ScaledFromZero" in found)
    world.backlog(0)
    world.scaled(0)


def test_each_concern_has_one_field_manager_and_nobody_else_s_fields_are_touched(world: World) -> None:
    world.backlog(150)
    world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(2)
    world.kubectl("annotate", "deployment", "email", "team=mail")
    world.apply(pool(autoscaling=BACKLOG, worker={"threads": 7}))
    eventually(lambda: str(world.get("deployment", "email")), lambda text: "--threads=7" in text)
    deployment = world.get("deployment", "email")
    assert deployment is not None
    assert deployment["metadata"]["annotations"]["team"] == "mail"
    assert deployment["spec"]["replicas"] == 2
    text = world.kubectl("get", "deployment", "email", "-o", "json", "--show-managed-fields")
    assert '"manager": "postfleet-operator"' in text
    assert '"manager": "postfleet-autoscaler"' in text


def test_kubectl_scale_sets_a_manual_pool(world: World) -> None:
    world.backlog(10_000)
    world.operator()
    world.apply(pool(mode="Manual", replicas=1))
    world.scaled(1)
    world.kubectl("scale", "jobpool/email", "--replicas=3")
    world.scaled(3)
    eventually(lambda: world.condition("ScalingActive"), lambda found: found == ("False", "Manual"))


def test_a_pool_that_recommends_says_so_and_does_nothing(world: World) -> None:
    world.backlog(500)
    world.operator()
    world.apply(pool(mode="Recommend", autoscaling=BACKLOG))
    eventually(lambda: world.status().get("desiredReplicas"), lambda found: found == 5)
    assert world.replicas() == 0
    assert world.condition("ScalingActive") == ("False", "Recommend")


def test_a_number_that_somebody_else_sets_stays_theirs(world: World) -> None:
    world.backlog(200)
    world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(2)
    world.apply(pool(mode="External", autoscaling=BACKLOG))

    def managers() -> str:
        return world.kubectl("get", "deployment", "email", "-o", "json", "--show-managed-fields")

    eventually(managers, lambda text: "postfleet-autoscaler" not in text)
    assert world.replicas() == 2
    # Somebody else applies it server-side, and no conflict is in the way.
    theirs = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "email"}, "spec": {"replicas": 4}}
    world.kubectl("apply", "--server-side", "--field-manager=hpa", "-f", "-", given=theirs)
    world.apply(pool(mode="External", autoscaling=BACKLOG, worker={"threads": 3}))
    eventually(lambda: str(world.get("deployment", "email")), lambda text: "--threads=3" in text)
    assert world.replicas() == 4
    world.apply(pool(mode="Auto", autoscaling=BACKLOG))
    world.scaled(2)


def test_what_a_deleted_pool_owned_goes_with_it(world: World) -> None:
    world.backlog(100)
    world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    world.kubectl("delete", "jobpool", "email")
    eventually(lambda: world.get("deployment", "email"), lambda found: found is None)
    eventually(lambda: world.items("pod"), lambda found: not found)


@pytest.mark.parametrize("labelled", [False, True], ids=["unlabelled", "with our label"])
def test_a_deployment_of_that_name_that_is_somebody_else_s_is_left_alone(world: World, labelled: bool) -> None:
    theirs = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "email", "labels": {"postfleet.io/pool": "email"} if labelled else {}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "theirs"}},
            "template": {
                "metadata": {"labels": {"app": "theirs"}},
                "spec": {"containers": [{"name": "c", "image": "theirs"}]},
            },
        },
    }
    world.apply(theirs)
    world.backlog(100)
    world.operator()
    world.apply(pool(autoscaling=BACKLOG), pool("other", queues=["other"], autoscaling=BACKLOG))
    world.record("other", held=100)
    eventually(lambda: world.condition("Ready"), lambda found: found == ("False", "NameTaken"))
    world.scaled(1, "other")
    found = world.get("deployment", "email")
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "theirs"
    world.kubectl("delete", "deployment", "email")
    world.scaled(1)


def test_a_pool_that_no_schema_refuses_and_nobody_can_read_stops_no_other(world: World) -> None:
    world.record("other", held=100)
    world.operator()
    never = {"cron": "0 0 30 2 *", "durationMinutes": 5, "minReplicas": 1}
    broken = pool("broken", autoscaling={"schedules": [never]})
    world.apply(broken, pool("other", queues=["other"], autoscaling=BACKLOG))
    world.scaled(1, "other")
    eventually(lambda: world.condition("Ready", "broken"), lambda found: found == ("False", "InvalidSpec"))
    eventually(lambda: world.reasons("broken"), lambda found: "InvalidSpec" in found)
    world.apply(pool("broken", queues=["third"]))
    eventually(lambda: world.get("deployment", "broken"), lambda found: found is not None)


def test_a_template_that_no_deployment_s_schema_takes_is_rejected_in_the_pool_s_own_words(world: World) -> None:
    world.operator()
    world.apply(pool(podTemplate={"spec": {"nodeSelecter": {"a": "b"}}}))
    eventually(lambda: world.condition("Ready"), lambda found: found == ("False", "Rejected"))
    [message] = [each["message"] for each in world.status()["conditions"] if each["type"] == "Ready"]
    assert message == "spec.podTemplate.spec.nodeSelecter: field not declared in schema"


def test_a_queue_in_two_pools_is_scaled_on_by_the_older(world: World) -> None:
    world.backlog(0)
    world.operator()
    world.apply(pool("older", queues=["priority-high"], autoscaling=BACKLOG))
    world.scaled(0, "older")
    world.kubectl("wait", "--for=condition=SignalHealthy", "jobpool/older", "--timeout=20s")
    # Creation times have whole seconds.
    eventually(lambda: world.redis.time()[0], lambda now: now > created(world, "older") + 1)
    world.apply(pool("younger", queues=["priority-high", "retry"], autoscaling=BACKLOG))
    world.backlog(300)
    world.scaled(3, "older")
    eventually(lambda: world.condition("QueuesExclusive", "younger")[0], lambda found: found == "False")
    assert world.replicas("younger") == 0
    assert world.condition("QueuesExclusive", "older")[0] == "True"


def created(world: World, name: str) -> float:
    found = world.get("jobpool", name)
    assert found is not None
    from postfleet_operator.kube.objects import seconds

    return seconds(found["metadata"]["creationTimestamp"]) or 0.0
