"""The rendered Deployment is the contract with the workers."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.deployment import RenderSettings, render, selector_text
from postfleet_operator.spec import parse_pool
from unit.operator.building import manifest, pool

SETTINGS = RenderSettings(worker_image="registry/worker:1", connections_secret="connections")


def pod(**spec: Any) -> dict[str, Any]:
    return render(pool(**spec), SETTINGS)["spec"]["template"]["spec"]


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
        {"name": "POSTFLEET_POOL", "value": "email"},
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
    assert rendered["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    assert rendered["containers"][0]["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert rendered["automountServiceAccountToken"] is False


def test_no_service_of_the_namespace_can_change_a_setting() -> None:
    assert pod()["enableServiceLinks"] is False


def test_the_number_of_replicas_is_left_to_the_autoscaler() -> None:
    assert "replicas" not in render(pool(), SETTINGS)["spec"]


def test_the_selector_is_part_of_the_labels() -> None:
    rendered = render(pool(), SETTINGS)
    selector = rendered["spec"]["selector"]["matchLabels"]
    assert selector == {"postfleet.io/pool": "email", "postfleet.io/node": "shared"}
    assert rendered["spec"]["template"]["metadata"]["labels"] == {
        **selector,
        "app.kubernetes.io/name": "postfleet-worker",
        "app.kubernetes.io/managed-by": "postfleet-operator",
    }
    assert selector_text(pool()) == "postfleet.io/pool=email,postfleet.io/node=shared"


def test_the_deployment_goes_with_its_pool() -> None:
    owned = parse_pool(manifest() | {"metadata": {"name": "email", "namespace": "mail", "uid": "u-1"}})
    metadata = render(owned, SETTINGS)["metadata"]
    assert (metadata["name"], metadata["namespace"]) == ("email", "mail")
    assert [(owner["uid"], owner["controller"]) for owner in metadata["ownerReferences"]] == [("u-1", True)]
    assert render(pool(), SETTINGS)["metadata"]["ownerReferences"] == []


def test_resources_are_passed_through() -> None:
    given = {"requests": {"cpu": "500m"}, "limits": {"memory": "1Gi", "cpu": 2}}
    assert container(worker={"resources": given})["resources"] == given
    assert container()["resources"] == {}


def test_rendering_is_repeatable() -> None:
    assert render(pool(), SETTINGS) == render(pool(), SETTINGS)
