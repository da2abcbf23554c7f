"""What may lie over the rendered pod template, and what in it is the operator's own. Pure.

Anything of a pod template may be given. Declared here is what the rules look at; Kubernetes judges the rest when the
Deployment is applied. `overlay` does the merging.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, StringConstraints, model_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.complaints import PlacedError
from postfleet_operator.spec.model import Model

CONTAINER = "worker"
OWN_LABELS = "postfleet.io/"
POOL_LABEL = f"{OWN_LABELS}pool"
NODE_LABEL = f"{OWN_LABELS}node"
CREDENTIALS_DIR = "/var/run/postfleet/nodes"
CREDENTIALS_VOLUME = "node-credentials"
RESERVED_ENV = (
    "POSTFLEET_POOL",
    "POSTFLEET_NODE",
    "POSTFLEET_REPLICA",
    "POSTFLEET_CREDENTIALS_DIR",
    "POSTFLEET_HEALTH_HOST",
    "POSTFLEET_HEALTH_PORT",
)
# Between the worker's own deadline and SIGKILL: time to write outcomes and hand back what was prefetched.
GRACE_MARGIN_SECONDS = 15

ENV_RESERVED = (
    "the operator sets POSTFLEET_POOL, _NODE, _REPLICA, _CREDENTIALS_DIR, _HEALTH_HOST and _HEALTH_PORT itself"
)
LABELS_RESERVED = (
    "labels that begin with postfleet.io/ are the operator's: they tell which workers are whose; leave them out"
)
ARGS_RESERVED = "the operator makes the args of the container worker from spec.queues and spec.worker; leave them out"
CREDENTIALS_RESERVED = (
    f"the volume {CREDENTIALS_VOLUME}, mounted at {CREDENTIALS_DIR}, is the operator's; give another name and path"
)
GRACE_TOO_SHORT = (
    "terminationGracePeriodSeconds must be at least spec.worker.shutdownTimeoutSeconds + 15, or workers are killed "
    "within their jobs: leave it out, and the operator sets it so"
)
ENTRIES_UNIQUE = "is given twice, merge the two"
NO_DIRECTIVES = "is no field; podTemplate is laid over the operator's template, and directives are not read"


class Open(Model):
    """A part of a pod: the rules look at the fields that are declared, all others may be given too."""

    model_config = ConfigDict(extra="allow")


class EnvOverlay(Open):
    """An environment variable."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.ENV)]


class MountOverlay(Open):
    """Where a volume is seen."""

    mount_path: Annotated[str, StringConstraints(min_length=1, max_length=1024)]


class ContainerOverlay(Open):
    """A container: `worker` is the operator's, any other runs beside it."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]
    args: tuple[Annotated[str, StringConstraints(max_length=4096)], ...] | None = Field(default=None, max_length=64)
    env: tuple[EnvOverlay, ...] | None = Field(default=None, max_length=64)
    volume_mounts: tuple[MountOverlay, ...] | None = Field(default=None, max_length=32)


class VolumeOverlay(Open):
    """A volume."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=63)]


class PodOverlay(Open):
    """The `spec` of a pod."""

    termination_grace_period_seconds: int | None = Field(default=None, ge=1, le=86_400)
    containers: tuple[ContainerOverlay, ...] | None = Field(default=None, max_length=16)
    init_containers: tuple[ContainerOverlay, ...] | None = Field(default=None, max_length=16)
    volumes: tuple[VolumeOverlay, ...] | None = Field(default=None, max_length=32)


class PodMetadata(Model):
    """Labels and annotations of every worker."""

    labels: dict[str, Annotated[str, StringConstraints(max_length=63)]] | None = Field(default=None, max_length=64)
    annotations: dict[str, Annotated[str, StringConstraints(max_length=16_384)]] | None = Field(
        default=None, max_length=64
    )


class PodTemplate(Model):
    """What lies over the rendered pod template."""

    metadata: PodMetadata | None = None
    spec: PodOverlay | None = None

    @model_validator(mode="after")
    def _leaves_the_operator_s(self) -> Self:
        found = [*_taken(self), *_repeated(self), *_directives(self.overlay, ())]
        if found:
            raise PlacedError(*found)
        return self

    @property
    def overlay(self) -> dict[str, Any]:
        """What was given, as it was given."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True, exclude_unset=True)

    @property
    def grace_seconds(self) -> int | None:
        """The grace period that was given."""
        return self.spec.termination_grace_period_seconds if self.spec else None


Found = tuple[tuple[str | int, ...], str]


def _taken(template: PodTemplate) -> Iterator[Found]:
    """What is the operator's own."""
    labels = (template.metadata and template.metadata.labels) or {}
    if own := [label for label in labels if label.startswith(OWN_LABELS)]:
        yield ("metadata", "labels"), f"{', '.join(own)}: {LABELS_RESERVED}"
    pod = template.spec or PodOverlay()
    if any(volume.name == CREDENTIALS_VOLUME for volume in pod.volumes or ()):
        yield ("spec", "volumes"), CREDENTIALS_RESERVED
    for number, container in enumerate(pod.containers or ()):
        if container.name != CONTAINER:
            continue
        place = ("spec", "containers", number)
        if container.args is not None:
            yield (*place, "args"), ARGS_RESERVED
        if own := [variable.name for variable in container.env or () if variable.name in RESERVED_ENV]:
            yield (*place, "env"), f"{', '.join(own)}: {ENV_RESERVED}"
        if any(mount.mount_path.rstrip("/") == CREDENTIALS_DIR for mount in container.volume_mounts or ()):
            yield (*place, "volumeMounts"), CREDENTIALS_RESERVED


def _repeated(template: PodTemplate) -> Iterator[Found]:
    """Entries of one list with the same key; the API server refuses them too."""
    pod = template.spec or PodOverlay()
    lists: list[tuple[tuple[str | int, ...], Sequence[str]]] = [
        (("spec", "volumes"), [volume.name for volume in pod.volumes or ()])
    ]
    for field, containers in (("containers", pod.containers or ()), ("initContainers", pod.init_containers or ())):
        lists.append((("spec", field), [container.name for container in containers]))
        for number, container in enumerate(containers):
            inner = ("spec", field, number)
            lists.append(((*inner, "env"), [variable.name for variable in container.env or ()]))
            lists.append(((*inner, "volumeMounts"), [mount.mount_path for mount in container.volume_mounts or ()]))
    for place, keys in lists:
        if twice := sorted({key for key in keys if keys.count(key) > 1}):
            yield place, f"{', '.join(twice)} {ENTRIES_UNIQUE}"


def _directives(value: Any, place: tuple[str | int, ...]) -> Iterator[Found]:
    """Keys such as `$patch`, which only Kubernetes' own patches have."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key.startswith("$"):
                yield (*place, key), NO_DIRECTIVES
            yield from _directives(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _directives(inner, (*place, number))
