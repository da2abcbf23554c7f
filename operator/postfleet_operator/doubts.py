"""What is wrong with a pool though its schema lets it pass: the Deployment is refused, or workers never start. Pure.

`mistakes` are certain, `doubts` are not: an image may know more settings than this operator.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from postfleet_operator.deployment import HEALTH_PORT
from postfleet_operator.spec import JobPool
from postfleet_operator.spec.podtemplate import CONTAINER
from postfleet_operator.spec.quantities import amount
from postfleet_operator.spec.workerenv import SHUTDOWN, misspelt, mistake

Found = Iterator[tuple[str, str]]
"""The path of a field, and what is wrong with it."""

POD = "spec.podTemplate.spec"


def mistakes(pool: JobPool) -> Found:
    """What can never work."""
    worker = pool.spec.worker
    if worker.image is not None and re.search(r"\s", worker.image):
        yield "spec.worker.image", f"{worker.image!r} is no image, there is white space in it"
    for path, name, value in _variables(pool):
        if value is not None and "$(" not in value and (problem := mistake(name, value)):
            yield path, f"{name}: {problem}; the workers would not start"
    yield from _above("spec.worker.resources", worker.resources.requests, worker.resources.limits)
    yield from _of_pod(pool.spec.pod_template.overlay.get("spec") or {})


def doubts(pool: JobPool) -> Found:
    """What hardly means what it says."""
    for path, name, _ in _variables(pool):
        if problem := misspelt(name):
            yield path, problem
        if name == SHUTDOWN:
            yield path, f"{name} has no effect: give spec.worker.shutdownTimeoutSeconds, the grace period follows it"
    ceiling = pool.spec.autoscaling.max_replicas
    for number, floor in enumerate(pool.spec.autoscaling.schedules):
        if floor.min_replicas > ceiling:
            path = f"spec.autoscaling.schedules[{number}].minReplicas"
            yield path, f"{floor.min_replicas} is more than maxReplicas: the floor will be {ceiling}"


def _variables(pool: JobPool) -> Iterator[tuple[str, str, str | None]]:
    """The worker's variables: path, name, and the value if it is given here."""
    for number, variable in enumerate(pool.spec.worker.env):
        yield f"spec.worker.env[{number}]", variable.name, variable.value
    pod = pool.spec.pod_template.overlay.get("spec") or {}
    for place, container in _containers(pod, "containers"):
        for number, entry in enumerate(container.get("env") or ()):
            if container["name"] == CONTAINER:
                value = entry.get("value")
                yield f"{place}.env[{number}]", entry["name"], value if isinstance(value, str) else None


def _of_pod(pod: Mapping[str, Any]) -> Found:
    if (policy := pod.get("restartPolicy", "Always")) != "Always":
        yield f"{POD}.restartPolicy", f"{policy!r} is not possible, a Deployment's pods have Always; leave it out"
    for kind in ("containers", "initContainers"):
        for place, container in _containers(pod, kind):
            if not container.get("image") and not (kind == "containers" and container["name"] == CONTAINER):
                yield place, f"container {container['name']} has no image"
            resources = container.get("resources")
            if isinstance(resources, Mapping):
                yield from _above(f"{place}.resources", resources.get("requests"), resources.get("limits"))
            if kind == "containers" and container["name"] == CONTAINER:
                yield from _second_health(place, container.get("ports"))


def _containers(pod: Mapping[str, Any], kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, container in enumerate(pod.get(kind) or ()):
        yield f"{POD}.{kind}[{number}]", container


def _second_health(place: str, ports: Any) -> Found:
    for number, port in enumerate(ports if isinstance(ports, list | tuple) else ()):
        if isinstance(port, Mapping) and port.get("name") == "health" and port.get("containerPort") != HEALTH_PORT:
            yield f"{place}.ports[{number}].name", "health is the name of the operator's own port; give another"


def _above(path: str, requests: Any, limits: Any) -> Found:
    """Requests that exceed their limit."""
    if not isinstance(requests, Mapping) or not isinstance(limits, Mapping):
        return
    for name, request in requests.items():
        limit = limits.get(name)
        try:
            exceeds = limit is not None and amount(request) > amount(limit)
        except (ValueError, ArithmeticError, KeyError):
            continue  # no quantity: the cluster tells
        if exceeds:
            yield f"{path}.requests.{name}", f"{request} is more than its limit, {limit}"
