"""Where pools and nodes live and workers run, as the operator needs it: a protocol, and its values.

Kubernetes implements it with an adapter, the local fleet with processes, tests with `MemoryCluster`. Every call may be
repeated safely, and comes from several threads. Implementations raise `ClusterUnavailable` for what may heal,
`NotLeader` where another replica of the operator acts, `NameTaken` and `Rejected` for what somebody must change.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool, Metadata, SendingNode, parse_node, parse_pool
from postfleet_operator.workerset import WorkerSet


@dataclass(frozen=True, slots=True)
class BrokenPool:
    """A JobPool that cannot be read; `problems` holds one line each."""

    metadata: Metadata
    problems: tuple[str, ...]
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.metadata.key


@dataclass(frozen=True, slots=True)
class BrokenNode:
    """A SendingNode that cannot be read; `problems` holds one line each."""

    metadata: Metadata
    problems: tuple[str, ...]
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.metadata.key


Resource = JobPool | BrokenPool | SendingNode | BrokenNode


@dataclass(frozen=True, slots=True)
class Pod:
    """One worker as the cluster sees it; times are epoch seconds.

    Attributes:
        name: also the worker's replica name.
        created_at: when it was asked for.
        ready_at: since when it is Ready; None when it is not.
        unschedulable: the cluster has no place for it.
        stopping: it was told to end.
    """

    name: str
    created_at: float
    ready_at: float | None = None
    unschedulable: bool = False
    stopping: bool = False


@dataclass(frozen=True, slots=True)
class Workload:
    """What a Deployment looks like now.

    Attributes:
        exists: whether there is one.
        replicas: wanted by the Deployment (`spec.replicas`), whoever wrote that.
        ready: workers that are Ready, that is whose processes have written their first heartbeat.
        present: workers that exist, ready or not, the ones that are stopping not counted.
        pods: each of them, stopping ones too.
    """

    exists: bool = False
    replicas: int = 0
    ready: int = 0
    present: int = 0
    pods: tuple[Pod, ...] = ()

    @property
    def starting(self) -> int:
        """Workers asked for that are not Ready yet."""
        return max(self.replicas - self.ready, 0)


@dataclass(frozen=True, slots=True)
class Stray:
    """A Deployment or Secret of ours that no worker set wants any more."""

    kind: str
    namespace: str
    name: str


class Cluster(Protocol):
    """The seam between the operator's loops and the world."""

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """Every pool, from a cache: called about once a second."""

    def nodes(self) -> Sequence[SendingNode | BrokenNode]:
        """Every sending node, from a cache."""

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """A Secret's decoded content, None when there is none; a value that is no text counts as absent."""

    def secret_changes(self, namespace: str, name: str) -> int:
        """How often it was heard since this was asked first that a Secret changed, was made or deleted."""

    def observe(self, workers: WorkerSet) -> Workload:
        """The Deployment as it is now, from a cache."""

    def apply(self, workers: WorkerSet, deployment: Mapping[str, Any]) -> None:
        """Create or update the Deployment; never touches its number of replicas.

        A new one starts with 0 replicas (Kubernetes would default to 1).
        """

    def apply_secret(self, workers: WorkerSet, secret: Mapping[str, Any]) -> None:
        """Create or update the Secret that the Deployment mounts."""

    def scale(self, workers: WorkerSet, replicas: int, first_to_go: Sequence[str] = ()) -> None:
        """Set the Deployment's number of replicas.

        `first_to_go` names the pods that should end first; it is best effort, and marked before the number shrinks.
        """

    def release(self, workers: WorkerSet) -> None:
        """Give up the number of replicas to somebody else, without changing it."""

    def strays(self, wanted: Iterable[WorkerSet]) -> Sequence[Stray]:
        """What was made for worker sets and belongs to none of the `wanted` ones."""

    def remove(self, stray: Stray) -> None:
        """Delete it; its workers end gracefully."""

    def patch_status(self, resource: Resource, status: Mapping[str, Any]) -> None:
        """Replace the resource's status; called only when it changed."""

    def event(self, resource: Resource, event_type: EventType, reason: EventReason, message: str) -> None:
        """Record an Event at the resource."""

    def notice(self, event_type: EventType, reason: EventReason, message: str) -> None:
        """Record an Event about the operator as a whole."""


def read_pool(manifest: Mapping[str, Any]) -> JobPool | BrokenPool:
    """A manifest as a pool; one that cannot be read is a value too, so that it stops no other."""
    try:
        return parse_pool(manifest)
    except InvalidManifest as error:
        return BrokenPool(_metadata(manifest), error.problems, manifest.get("status") or {})


def read_node(manifest: Mapping[str, Any]) -> SendingNode | BrokenNode:
    """A manifest as a node; one that cannot be read is a value too."""
    try:
        return parse_node(manifest)
    except InvalidManifest as error:
        return BrokenNode(_metadata(manifest), error.problems, manifest.get("status") or {})


def _metadata(manifest: Mapping[str, Any]) -> Metadata:
    raw = manifest.get("metadata") or {}
    return Metadata(
        name=str(raw.get("name") or ""),
        namespace=str(raw.get("namespace") or "default"),
        uid=str(raw.get("uid") or ""),
        generation=int(raw.get("generation") or 1),
        created_at=str(raw.get("creationTimestamp") or ""),
    )
