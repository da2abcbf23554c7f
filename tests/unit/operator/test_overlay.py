"""A pod template is overlaid as Kubernetes' strategic merge patch would do it."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from postfleet_operator.overlay import MERGE_KEYS, overlay


def pod(**spec: Any) -> dict[str, Any]:
    return {"spec": spec}


def container(**fields: Any) -> dict[str, Any]:
    return pod(containers=[{"name": "worker", **fields}])


@pytest.mark.parametrize(
    ("below", "above", "merged"),
    [
        pytest.param(pod(hostname="a"), pod(hostname="b"), pod(hostname="b"), id="a value replaces"),
        pytest.param(pod(), pod(hostname="b"), pod(hostname="b"), id="a value is added"),
        pytest.param(
            {"metadata": {"labels": {"a": "1", "b": "1"}}},
            {"metadata": {"labels": {"b": "2"}}},
            {"metadata": {"labels": {"a": "1", "b": "2"}}},
            id="mappings merge",
        ),
        pytest.param(
            pod(nodeSelector={"a": "1"}), pod(nodeSelector={}), pod(nodeSelector={"a": "1"}), id="empty adds nothing"
        ),
        pytest.param(
            pod(containers=[{"name": "worker", "image": "a"}]),
            pod(containers=[{"name": "proxy"}, {"name": "worker", "image": "b"}]),
            pod(containers=[{"name": "worker", "image": "b"}, {"name": "proxy"}]),
            id="containers by name, new ones last",
        ),
        pytest.param(
            container(env=[{"name": "A", "value": "1"}]),
            container(env=[{"name": "B", "value": "2"}]),
            container(env=[{"name": "A", "value": "1"}, {"name": "B", "value": "2"}]),
            id="variables by name",
        ),
        pytest.param(
            container(env=[{"name": "A", "value": "1"}]),
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
            container(env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]),
            id="a variable has one source",
        ),
        pytest.param(
            container(volumeMounts=[{"mountPath": "/a", "name": "x"}]),
            container(volumeMounts=[{"mountPath": "/a", "readOnly": True}, {"mountPath": "/b", "name": "y"}]),
            container(
                volumeMounts=[{"mountPath": "/a", "name": "x", "readOnly": True}, {"mountPath": "/b", "name": "y"}]
            ),
            id="mounts by path",
        ),
        pytest.param(
            container(ports=[{"containerPort": 8080, "name": "health"}]),
            container(ports=[{"containerPort": 8080, "hostPort": 80}, {"containerPort": 9090}]),
            container(ports=[{"containerPort": 8080, "name": "health", "hostPort": 80}, {"containerPort": 9090}]),
            id="ports by number",
        ),
        pytest.param(
            container(ports=[{"containerPort": 8080}]),
            container(
                ports=[
                    {"containerPort": 53, "protocol": "UDP"},
                    {"containerPort": 53, "protocol": "TCP"},
                    {"containerPort": 8080, "name": "health"},
                    {"containerPort": 8080, "protocol": "UDP"},
                ]
            ),
            container(
                ports=[
                    {"containerPort": 8080, "name": "health"},
                    {"containerPort": 53, "protocol": "UDP"},
                    {"containerPort": 53, "protocol": "TCP"},
                    {"containerPort": 8080, "protocol": "UDP"},
                ]
            ),
            id="one number, two ports",
        ),
        pytest.param(
            pod(),
            pod(
                topologySpreadConstraints=[
                    {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 5},
                    {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1},
                ]
            ),
            pod(
                topologySpreadConstraints=[
                    {"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 5},
                    {"topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "maxSkew": 1},
                ]
            ),
            id="one topology, two constraints",
        ),
        pytest.param(
            container(resources={"limits": {"cpu": 1}}),
            container(resources={"limits": {"memory": "1Gi"}}),
            container(resources={"limits": {"cpu": 1, "memory": "1Gi"}}),
            id="resources merge",
        ),
        pytest.param(
            container(command=["a", "b"]), container(command=["c"]), container(command=["c"]), id="command is replaced"
        ),
        pytest.param(
            container(envFrom=[{"secretRef": {"name": "a"}}]),
            container(envFrom=[{"secretRef": {"name": "b"}}]),
            container(envFrom=[{"secretRef": {"name": "b"}}]),
            id="envFrom is replaced",
        ),
        pytest.param(
            container(securityContext={"capabilities": {"drop": ["ALL"]}}),
            container(securityContext={"capabilities": {"drop": ["NET_RAW"]}}),
            container(securityContext={"capabilities": {"drop": ["NET_RAW"]}}),
            id="capabilities are replaced",
        ),
        pytest.param(
            pod(volumes=[{"name": "tmp", "emptyDir": {}}]),
            pod(volumes=[{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}]),
            pod(volumes=[{"name": "tmp", "persistentVolumeClaim": {"claimName": "c"}}]),
            id="a volume is of one kind",
        ),
        pytest.param(
            pod(tolerations=[{"key": "a"}]),
            pod(tolerations=[{"key": "b"}]),
            pod(tolerations=[{"key": "b"}]),
            id="tolerations are replaced",
        ),
        pytest.param(
            pod(imagePullSecrets=[{"name": "a"}]),
            pod(imagePullSecrets=[{"name": "a"}, {"name": "b"}]),
            pod(imagePullSecrets=[{"name": "a"}, {"name": "b"}]),
            id="pull secrets by name",
        ),
        pytest.param(
            pod(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 1}]),
            pod(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 2}, {"topologyKey": "host"}]),
            pod(topologySpreadConstraints=[{"topologyKey": "zone", "maxSkew": 2}, {"topologyKey": "host"}]),
            id="spread constraints by topology key",
        ),
        pytest.param(
            pod(hostAliases=[{"ip": "1.1.1.1", "hostnames": ["a"]}]),
            pod(hostAliases=[{"ip": "1.1.1.1", "hostnames": ["b"]}]),
            pod(hostAliases=[{"ip": "1.1.1.1", "hostnames": ["b"]}]),
            id="host aliases by address",
        ),
        pytest.param(
            pod(),
            pod(initContainers=[{"name": "a", "env": [{"name": "X"}]}]),
            pod(initContainers=[{"name": "a", "env": [{"name": "X"}]}]),
            id="a list of its own",
        ),
        pytest.param(
            container(livenessProbe={"httpGet": {"path": "/healthz"}, "periodSeconds": 10}),
            container(livenessProbe={"periodSeconds": 30}),
            container(livenessProbe={"httpGet": {"path": "/healthz"}, "periodSeconds": 30}),
            id="a probe's pace",
        ),
    ],
)
def test_one_template_over_another(below: dict[str, Any], above: dict[str, Any], merged: dict[str, Any]) -> None:
    before = copy.deepcopy((below, above))
    assert overlay(below, above) == merged
    assert (below, above) == before
    assert overlay(merged, above) == merged, "laying it over again changes nothing"


@pytest.mark.parametrize(("path", "key"), MERGE_KEYS.items())
def test_every_list_with_a_key_merges_by_it(path: str, key: str) -> None:
    def nested(*entries: dict[str, Any]) -> dict[str, Any]:
        *outer, last = path.split(".")
        value: dict[str, Any] = {last: list(entries)}
        for field in reversed(outer):
            value = {field: [{"name": "x", **value}]} if f"spec.{field}" in MERGE_KEYS else {field: value}
        return value

    assert overlay(nested({key: "a"}, {key: "b"}), nested({key: "b", "more": 1}, {key: "c"})) == nested(
        {key: "a"}, {key: "b", "more": 1}, {key: "c"}
    )


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("regcred", id="a word"),
        pytest.param("containerPort", id="the key's own name"),
        pytest.param(8080, id="a number"),
        pytest.param(None, id="nothing"),
        pytest.param([{"containerPort": 8080}], id="a list"),
        pytest.param({"containerPort": [8080]}, id="a key that is a list"),
        pytest.param({"containerPort": {"a": 1}}, id="a key that is a mapping"),
        pytest.param({"name": "health"}, id="no key"),
    ],
)
def test_an_entry_of_another_shape_is_left_for_the_api_server_to_refuse(entry: object) -> None:
    below, above = container(ports=[{"containerPort": 8080}]), container(ports=[entry])
    assert overlay(below, above) == container(ports=[{"containerPort": 8080}, entry])
