"""From a pod template to a process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from postfleet_local.pods import Launch, PodError, Probe, launch, secret_volumes, template_hash

SECRETS = {"connections": {"POSTFLEET_REDIS_URL": b"redis://r"}, "extra": {"token": b"t0k"}}
MOUNT = {"name": "creds", "mountPath": "/var/run/postfleet/nodes"}
VOLUME = {"name": "creds", "secret": {"secretName": "email-nodes"}}


def template(**container: Any) -> dict[str, Any]:
    volumes = container.pop("volumes", [])
    return {
        "metadata": {"labels": {"postfleet.io/pool": "email"}},
        "spec": {
            "containers": [{"name": "worker", "command": ["postfleet", "worker"], **container}],
            "volumes": volumes,
        },
    }


def launched(folders: dict[str, Path] | None = None, **container: Any) -> Launch:
    return launch(template(**container), replica="email-7f3a-2", secrets=SECRETS, folders=folders or {}, port=4711)


def env(*variables: dict[str, Any], **container: Any) -> dict[str, str]:
    return dict(launched(env=list(variables), **container).env)


def test_command_and_arguments_follow_each_other() -> None:
    assert launched(args=["--queues=a,b"]).argv == ("postfleet", "worker", "--queues=a,b")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        pytest.param({"value": "plain"}, "plain", id="value"),
        pytest.param({"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}, "email-7f3a-2", id="name"),
        pytest.param(
            {"valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['postfleet.io/pool']"}}}, "email", id="label"
        ),
        pytest.param({"valueFrom": {"secretKeyRef": {"name": "extra", "key": "token"}}}, "t0k", id="secret"),
    ],
)
def test_a_variable_gets_its_value(variable: dict[str, Any], value: str) -> None:
    assert env({"name": "X", **variable}) == {"X": value}


def test_what_listens_on_every_address_of_a_pod_listens_on_this_machine_s_own() -> None:
    host, port = {"name": "POSTFLEET_WEB_HOST", "value": "0.0.0.0"}, {"name": "POSTFLEET_WEB_PORT", "value": "8081"}
    assert env(host, port) == {"POSTFLEET_WEB_HOST": "127.0.0.1", "POSTFLEET_WEB_PORT": "0"}
    assert env(port) == {"POSTFLEET_WEB_PORT": "8081"}


def test_env_wins_over_env_from_and_may_refer_to_it() -> None:
    found = env(
        {"name": "A", "value": "$(POSTFLEET_REDIS_URL)/1"},
        {"name": "B", "value": "$$(A) $(NONE)"},
        envFrom=[{"secretRef": {"name": "connections"}}],
    )
    assert found == {"POSTFLEET_REDIS_URL": "redis://r", "A": "redis://r/1", "B": "$(A) $(NONE)"}


def test_the_health_endpoint_gets_a_port_of_its_own_on_loopback() -> None:
    found = env(
        {"name": "POSTFLEET_HEALTH_HOST", "value": "0.0.0.0"}, {"name": "POSTFLEET_HEALTH_PORT", "value": "8080"}
    )
    assert found == {"POSTFLEET_HEALTH_HOST": "127.0.0.1", "POSTFLEET_HEALTH_PORT": "4711"}


def test_probes_are_read_as_a_cluster_takes_them() -> None:
    health, ready = {"httpGet": {"path": "/healthz"}}, {"httpGet": {"path": "/readyz"}, "periodSeconds": 2}
    found = launched(
        startupProbe=health | {"periodSeconds": 2, "failureThreshold": 60},
        livenessProbe=health | {"timeoutSeconds": 5, "failureThreshold": 6},
        readinessProbe=ready,
    )
    assert found.liveness == Probe("/healthz", period_seconds=10, timeout_seconds=5, failures=6)
    assert found.readiness == Probe("/readyz", period_seconds=2, timeout_seconds=1, failures=3)
    assert found.startup_seconds == 120
    assert launched(livenessProbe=health | {"initialDelaySeconds": 7}).startup_seconds == 7
    assert (launched().liveness, launched().readiness) == (None, None)


def test_values_that_name_a_mounted_secret_are_rerooted() -> None:
    found = launched(
        {"email-nodes": Path("/tmp/f")},
        env=[
            {"name": "POSTFLEET_CREDENTIALS_DIR", "value": "/var/run/postfleet/nodes"},
            {"name": "OTHER", "value": "/var/run/postfleet/nodesx"},
        ],
        args=["/var/run/postfleet/nodes/a.username"],
        volumeMounts=[MOUNT],
        volumes=[VOLUME],
    )
    assert found.env == {"POSTFLEET_CREDENTIALS_DIR": "/tmp/f", "OTHER": "/var/run/postfleet/nodesx"}
    assert found.argv[-1] == "/tmp/f/a.username"


@pytest.mark.parametrize(
    ("container", "message"),
    [
        pytest.param({"envFrom": [{"secretRef": {"name": "none"}}]}, "secret 'none' not found", id="no secret"),
        pytest.param(
            {"env": [{"name": "X", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "k"}}}]},
            "secret 'extra' has no key 'k', which X needs",
            id="no key",
        ),
        pytest.param({"command": []}, "has no command", id="no command"),
        pytest.param({"envFrom": [{"configMapRef": {"name": "c"}}]}, "Secrets only", id="config map"),
    ],
)
def test_what_cannot_be_started_says_why(container: dict[str, Any], message: str) -> None:
    with pytest.raises(PodError, match=message):
        launched(**container)


def test_what_is_optional_may_be_missing() -> None:
    variable = {"name": "X", "valueFrom": {"secretKeyRef": {"name": "extra", "key": "k", "optional": True}}}
    assert env(variable, envFrom=[{"secretRef": {"name": "none", "optional": True}}]) == {}


def test_other_volumes_are_refused() -> None:
    with pytest.raises(PodError, match="Secret volumes only"):
        secret_volumes(template(volumes=[{"name": "v", "hostPath": {"path": "/"}}]))


def test_templates_differ_by_their_content_not_by_their_order() -> None:
    assert template_hash({"a": 1, "b": 2}) == template_hash({"b": 2, "a": 1}) != template_hash({"a": 1, "b": 3})
