"""The control plane of the suite is a real one."""

from __future__ import annotations

import json

from servers import ControlPlane


def test_the_resources_are_served(plane: ControlPlane, namespace: str) -> None:
    found = plane.kubectl("api-resources", "--api-group=postfleet.io", "-o", "name").split()
    assert sorted(found) == ["jobpools.postfleet.io", "sendingnodes.postfleet.io"]


def test_a_pool_gets_its_defaults(plane: ControlPlane, namespace: str) -> None:
    pool = {
        "apiVersion": "postfleet.io/v1alpha1",
        "kind": "JobPool",
        "metadata": {"name": "email"},
        "spec": {"queues": ["retry"]},
    }
    plane.kubectl("apply", "-f", "-", namespace=namespace, given=pool)
    read = json.loads(plane.kubectl("get", "jp", "email", "-o", "json", namespace=namespace))
    assert read["spec"]["mode"] == "Auto"
    assert read["spec"]["autoscaling"]["maxReplicas"] == 20
