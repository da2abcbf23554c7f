"""What `spec.podTemplate` may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.spec import parse_pool
from unit.operator.building import manifest, problems

TEMPLATE = "JobPool email: spec.podTemplate"
CREDENTIALS = (
    "the volume node-credentials, mounted at /var/run/postfleet/nodes, is the operator's; give another name and path"
)


@pytest.mark.parametrize(
    ("template", "line"),
    [
        pytest.param({"specs": {}}, ".specs: unknown field, did you mean spec?", id="misspelt"),
        pytest.param(
            {"metadata": {"name": "x"}}, ".metadata.name: unknown field; known here are labels, annotations", id="name"
        ),
        pytest.param(
            {"metadata": {"labels": {"postfleet.io/node": "x"}}},
            ".metadata.labels: postfleet.io/node: labels that begin with postfleet.io/ are the operator's: "
            "they tell which workers are whose; leave them out",
            id="selector",
        ),
        pytest.param(
            {"spec": {"terminationGracePeriodSeconds": 74}},
            ".spec.terminationGracePeriodSeconds: 74 is less than 75: terminationGracePeriodSeconds must be at least "
            "spec.worker.shutdownTimeoutSeconds + 15, or workers are killed within their jobs: "
            "leave it out, and the operator sets it so",
            id="grace",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "proxy"}, {"name": "worker", "env": [{"name": "POSTFLEET_NODE"}]}]}},
            ".spec.containers[1].env: POSTFLEET_NODE: the operator sets POSTFLEET_POOL, _NODE, _REPLICA, "
            "_CREDENTIALS_DIR, _HEALTH_HOST and _HEALTH_PORT itself",
            id="reserved variable",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "worker", "args": ["--queues=x"]}]}},
            ".spec.containers[0].args: the operator makes the args of the container worker from spec.queues and "
            "spec.worker; leave them out",
            id="args",
        ),
        pytest.param(
            {"spec": {"containers": [{"name": "worker", "volumeMounts": [{"mountPath": "/var/run/postfleet/nodes"}]}]}},
            f".spec.containers[0].volumeMounts: {CREDENTIALS}",
            id="credentials' mount",
        ),
        pytest.param(
            {"spec": {"volumes": [{"name": "node-credentials", "emptyDir": {}}]}},
            f".spec.volumes: {CREDENTIALS}",
            id="credentials' volume",
        ),
        pytest.param(
            {"spec": {"initContainers": [{"name": "a"}, {"name": "a"}]}},
            ".spec.initContainers: a is given twice, merge the two",
            id="twice",
        ),
        pytest.param(
            {"spec": {"containers": [{"image": "x"}]}},
            ".spec.containers[0].name: is missing, give it a value",
            id="nameless",
        ),
        pytest.param(
            {"spec": {"affinity": {"$patch": "delete"}}},
            ".spec.affinity.$patch: is no field; podTemplate is laid over the operator's template, "
            "and directives are not read",
            id="directive",
        ),
    ],
)
def test_a_pod_template_leaves_what_is_the_operator_s(template: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(podTemplate=template)) == [TEMPLATE + line]


def test_a_pod_template_may_hold_anything_else_and_is_kept_as_it_was_given() -> None:
    given = {
        "metadata": {"labels": {"team": "mail"}},
        "spec": {
            "terminationGracePeriodSeconds": 75,
            "tolerations": [{"key": "spot", "tolerationSeconds": 5}],
            "containers": [
                {"name": "worker", "env": [{"name": "A", "value": ""}], "resources": {"limits": {"cpu": 1.5}}},
                {"name": "proxy", "args": ["-v"], "env": [{"name": "POSTFLEET_NODE", "value": "x"}]},
            ],
        },
    }
    assert parse_pool(manifest(podTemplate=given)).spec.pod_template.overlay == given
    assert parse_pool(manifest()).spec.pod_template.overlay == {}
