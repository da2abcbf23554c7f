"""The rendered Deployment is the contract with the workers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pod_security import violations
from postfleet_operator.deployment import RenderSettings, SecretKey, render, selector_text
from postfleet_operator.spec import parse_node, parse_pool
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import manifest, node_manifest, pool, workers

SETTINGS = RenderSettings(worker_image="registry/worker:1", connections_secret="connections")


def dedicated(pool_spec: dict[str, Any] | None = None, **place: Any) -> dict[str, Any]:
    """The Deployment of a node that has workers of its own."""
    own = {"poolRef": {"name": "email"}, "placement": "Dedicated", **place}
    node = parse_node(node_manifest("acme-1", workers=own))
    return render(WorkerSet(pool("email", **(pool_spec or {})), node), SETTINGS)


def pod(**spec: Any) -> dict[str, Any]:
    return render(workers(**spec), SETTINGS)["spec"]["template"]["spec"]


def container(**spec: Any) -> dict[str, Any]:
    [only] = pod(**spec)["containers"]
    return only


def test_the_command_line_names_queues_and_shape() -> None:
    worker = {"threads": 8, "processes": 2, "shutdownTimeoutSeconds": 90}
    rendered = container(queues=["a", "b"], worker=worker)
    assert rendered["command"] == ["postfleet", "worker"]
    assert rendered["args"] == ["--queues=a,b", "--threads=8", "--processes=2", "--shutdown-timeout=90"]


def test_the_environment_is_the_operator_s_own_then_the_pool_s() -> None:
    ref = {"secretKeyRef": {"name": "s", "key": "k"}}
    worker = {
        "env": [
            {"name": "POSTFLEET_LOG_LEVEL", "value": "DEBUG"},
            {"name": "TOKEN", "valueFrom": ref},
            {"name": "EMPTY"},
        ],
        "envFrom": [{"configMapRef": {"name": "more"}}, {"prefix": "X_", "secretRef": {"name": "s", "optional": True}}],
    }
    rendered = container(worker=worker)
    assert rendered["env"] == [
        {"name": "POSTFLEET_POOL", "value": "default/email"},
        {"name": "POSTFLEET_NODE", "value": "shared"},
        {"name": "POSTFLEET_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POSTFLEET_CREDENTIALS_DIR", "value": "/var/run/postfleet/nodes"},
        {"name": "POSTFLEET_HEALTH_HOST", "value": "0.0.0.0"},
        {"name": "POSTFLEET_HEALTH_PORT", "value": "8080"},
        {"name": "POSTFLEET_LOG_LEVEL", "value": "DEBUG"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": False}}},
        {"name": "EMPTY"},
    ]
    assert rendered["envFrom"] == [
        {"secretRef": {"name": "connections"}},
        {"configMapRef": {"name": "more", "optional": False}},
        {"prefix": "X_", "secretRef": {"name": "s", "optional": True}},
    ]


def test_each_url_may_have_a_secret_of_its_own() -> None:
    database, redis = SecretKey("pg", "uri"), SecretKey("cache", "url")
    from_pg = {"name": "POSTFLEET_DATABASE_URL", "valueFrom": {"secretKeyRef": {"name": "pg", "key": "uri"}}}
    from_cache = {"name": "POSTFLEET_REDIS_URL", "valueFrom": {"secretKeyRef": {"name": "cache", "key": "url"}}}

    def env(settings: RenderSettings, **spec: Any) -> tuple[list[Any], list[Any]]:
        [only] = render(workers(**spec), settings)["spec"]["template"]["spec"]["containers"]
        return [variable for variable in only["env"] if variable["name"].endswith("_URL")], only["envFrom"]

    connections = [{"secretRef": {"name": "connections"}}]
    assert env(SETTINGS) == ([], connections)
    assert env(replace(SETTINGS, database_secret=database)) == ([from_pg], connections)
    both = replace(SETTINGS, database_secret=database, redis_secret=redis)
    assert env(both) == ([from_pg, from_cache], [])
    own = {"name": "POSTFLEET_REDIS_URL", "value": "redis://own"}
    assert env(both, worker={"env": [own]}) == ([from_pg, own], [])


def test_the_secret_key_comes_from_its_secret_and_workers_start_without_it() -> None:
    settings = replace(SETTINGS, key_secret=SecretKey("postfleet-key", "key"))
    reference = {"name": "postfleet-key", "key": "key", "optional": True}
    own = {"name": "POSTFLEET_SECRET_KEY", "valueFrom": {"secretKeyRef": {"name": "o", "key": "k", "optional": False}}}

    def keys(rendered: dict[str, Any]) -> list[Any]:
        [only] = rendered["spec"]["template"]["spec"]["containers"]
        return [variable for variable in only["env"] if variable["name"] == "POSTFLEET_SECRET_KEY"]

    assert keys(render(workers(), SETTINGS)) == []
    assert keys(render(workers(), settings)) == [
        {"name": "POSTFLEET_SECRET_KEY", "valueFrom": {"secretKeyRef": reference}}
    ]
    assert keys(render(workers(worker={"env": [own]}), settings)) == [own]


def test_settings_of_every_worker_come_before_what_a_pool_adds() -> None:
    settings = replace(SETTINGS, settings_config_map="settings")
    worker = {"envFrom": [{"configMapRef": {"name": "own"}}]}
    [only] = render(workers(worker=worker), settings)["spec"]["template"]["spec"]["containers"]
    assert only["envFrom"] == [
        {"configMapRef": {"name": "settings"}},
        {"secretRef": {"name": "connections"}},
        {"configMapRef": {"name": "own", "optional": False}},
    ]


def test_images_are_pulled_with_the_operator_s_secrets() -> None:
    settings = replace(SETTINGS, pull_secrets=("registry", "mirror"))
    rendered = render(workers(), settings)["spec"]["template"]["spec"]
    assert rendered["imagePullSecrets"] == [{"name": "registry"}, {"name": "mirror"}]
    assert "imagePullSecrets" not in pod()


def test_the_image_is_the_pool_s_or_the_operator_s() -> None:
    assert container()["image"] == "registry/worker:1"
    assert container(worker={"image": "mine:2"})["image"] == "mine:2"


@pytest.mark.parametrize("seconds", [1, 60, 3600])
def test_the_grace_period_outlasts_the_shutdown_timeout(seconds: int) -> None:
    assert pod(worker={"shutdownTimeoutSeconds": seconds})["terminationGracePeriodSeconds"] == seconds + 15


def test_the_probes_ask_the_health_port() -> None:
    rendered = container()
    assert rendered["ports"] == [{"name": "health", "containerPort": 8080}]
    assert rendered["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    assert rendered["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert rendered["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}


def test_credentials_are_a_folder_that_can_be_refreshed() -> None:
    [mount, _] = container()["volumeMounts"]
    [volume, _] = pod()["volumes"]
    assert mount == {"name": "node-credentials", "mountPath": "/var/run/postfleet/nodes", "readOnly": True}
    assert volume["secret"]["secretName"] == "email-nodes"
    assert volume["secret"]["optional"] is True


def test_pods_meet_the_restricted_security_standard() -> None:
    rendered = pod()
    assert violations(rendered) == []
    assert rendered["containers"][0]["securityContext"]["readOnlyRootFilesystem"] is True
    assert rendered["automountServiceAccountToken"] is False


def test_no_service_of_the_namespace_can_change_a_setting() -> None:
    assert pod()["enableServiceLinks"] is False


def test_the_number_of_replicas_is_left_to_the_autoscaler() -> None:
    assert "replicas" not in render(workers(), SETTINGS)["spec"]


def test_the_selector_is_part_of_the_labels() -> None:
    rendered = render(workers(), SETTINGS)
    selector = rendered["spec"]["selector"]["matchLabels"]
    assert selector == {"postfleet.io/pool": "email", "postfleet.io/node": "shared"}
    assert rendered["spec"]["template"]["metadata"]["labels"] == {
        **selector,
        "app.kubernetes.io/name": "postfleet-worker",
        "app.kubernetes.io/managed-by": "postfleet-operator",
    }
    assert selector_text(workers()) == "postfleet.io/pool=email,postfleet.io/node=shared"


def test_the_deployment_goes_with_its_pool() -> None:
    owned = parse_pool(manifest() | {"metadata": {"name": "email", "namespace": "mail", "uid": "u-1"}})
    metadata = render(WorkerSet(owned), SETTINGS)["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("email", "mail")
    assert [(owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]] == [("u-1", True)]
    assert render(workers(), SETTINGS)["metadata"]["ownerReferences"] == []


def test_resources_are_passed_through() -> None:
    given = {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi", "cpu": 2}}
    assert container(worker={"resources": given})["resources"] == given
    assert container()["resources"] == {}


def test_rendering_is_repeatable() -> None:
    assert render(workers(), SETTINGS) == render(workers(), SETTINGS)


def test_a_dedicated_node_has_a_deployment_queues_and_a_secret_of_its_own() -> None:
    rendered = dedicated()
    [container] = rendered["spec"]["template"]["spec"]["containers"]
    assert rendered["metadata"]["name"] == "email-acme-1"
    assert rendered["spec"]["selector"]["matchLabels"] == {"postfleet.io/pool": "email", "postfleet.io/node": "acme-1"}
    assert container["args"][0] == "--queues=priority-high.acme-1,retry.acme-1"
    assert container["env"][:2] == [
        {"name": "POSTFLEET_POOL", "value": "default/email"},
        {"name": "POSTFLEET_NODE", "value": "acme-1"},
    ]
    assert rendered["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] == "email-acme-1-nodes"


def test_a_dedicated_node_s_workers_run_at_its_own_place() -> None:
    toleration = {"key": "egress", "operator": "Exists", "effect": "NoSchedule"}
    rendered = dedicated(nodeSelector={"egress": "acme"}, tolerations=[toleration])["spec"]["template"]["spec"]
    assert rendered["nodeSelector"] == {"egress": "acme"}
    assert rendered["tolerations"] == [toleration]
    assert not {"nodeSelector", "tolerations"} & pod().keys()


def test_the_node_s_place_is_right_where_the_pool_s_template_says_otherwise() -> None:
    given = {"nodeSelector": {"egress": "any", "disk": "ssd"}, "tolerations": [{"key": "spot"}, {"key": "egress"}]}
    own = {"nodeSelector": {"egress": "acme"}, "tolerations": [{"key": "egress"}, {"key": "acme"}]}
    rendered = dedicated({"podTemplate": {"spec": given}}, **own)["spec"]["template"]["spec"]
    assert rendered["nodeSelector"] == {"egress": "acme", "disk": "ssd"}
    assert rendered["tolerations"] == [{"key": "spot"}, {"key": "egress"}, {"key": "acme"}]


def test_a_pod_template_extends_the_worker_and_adds_what_runs_beside_it() -> None:
    worker = {
        "name": "worker",
        "env": [{"name": "TZ", "value": "UTC"}],
        "volumeMounts": [{"name": "spool", "mountPath": "/spool"}],
        "resources": {"limits": {"memory": "1Gi"}},
    }
    given = {
        "metadata": {"labels": {"team": "mail"}, "annotations": {"a": "b"}},
        "spec": {
            "priorityClassName": "urgent",
            "containers": [worker, {"name": "proxy", "image": "proxy:1"}],
            "volumes": [{"name": "spool", "emptyDir": {}}],
        },
    }
    plain = render(workers(), SETTINGS)["spec"]["template"]
    template = render(workers(podTemplate=given), SETTINGS)["spec"]["template"]
    assert template["metadata"] == {
        "labels": {**plain["metadata"]["labels"], "team": "mail"},
        "annotations": {"a": "b"},
    }
    [own, proxy] = template["spec"]["containers"]
    [before] = plain["spec"]["containers"]
    assert own == before | {
        "env": [*before["env"], *worker["env"]],
        "volumeMounts": [*before["volumeMounts"], *worker["volumeMounts"]],
        "resources": worker["resources"],
    }
    assert proxy == {"name": "proxy", "image": "proxy:1"}
    assert [volume["name"] for volume in template["spec"]["volumes"]] == ["node-credentials", "tmp", "spool"]
    assert template["spec"]["priorityClassName"] == "urgent"
    assert template["spec"]["terminationGracePeriodSeconds"] == 75


def test_a_longer_grace_period_may_be_given() -> None:
    assert pod(podTemplate={"spec": {"terminationGracePeriodSeconds": 300}})["terminationGracePeriodSeconds"] == 300
