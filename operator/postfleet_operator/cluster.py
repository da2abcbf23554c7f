"""Where pools live and workers run, as the operator needs it: a protocol, its values, and a twin in memory.

Kubernetes implements it with an adapter, the local fleet with processes. Every call may be repeated safely.
Implementations raise `ClusterUnavailable` for what may heal, `NameTaken` and `Rejected` for what somebody must change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool, Metadata, parse_pool


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
class Workload:
    """What a pool's Deployment looks like now.

    Attributes:
        exists: whether there is one.
        replicas: wanted by the Deployment (`spec.replicas`), whoever wrote that.
        ready: workers that are Ready, that is whose processes have written their first heartbeat.
        present: workers that exist, ready or not, the ones that are stopping not counted.
    """

    exists: bool = False
    replicas: int = 0
    ready: int = 0
    present: int = 0

    @property
    def starting(self) -> int:
        """Workers asked for that are not Ready yet."""
        return max(self.replicas - self.ready, 0)


class Cluster(Protocol):
    """The seam between the autoscaler and the world."""

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """Every pool, from a cache: called about once a second."""

    def observe(self, pool: JobPool) -> Workload:
        """The pool's Deployment as it is now."""

    def apply(self, pool: JobPool, deployment: Mapping[str, Any]) -> None:
        """Create or update the Deployment; never touches its number of replicas.

        A new one starts with 0 replicas (Kubernetes would default to 1).
        """

    def scale(self, pool: JobPool, replicas: int) -> None:
        """Set the Deployment's number of replicas."""

    def patch_status(self, pool: JobPool | BrokenPool, status: Mapping[str, Any]) -> None:
        """Replace the pool's status; called only when it changed."""

    def event(self, pool: JobPool | BrokenPool, event_type: EventType, reason: EventReason, message: str) -> None:
        """Record an Event at the pool."""


def read_pool(manifest: Mapping[str, Any]) -> JobPool | BrokenPool:
    """A manifest as a pool; one that cannot be read is a value too, so that it stops no other."""
    try:
        return parse_pool(manifest)
    except InvalidManifest as error:
        raw = manifest.get("metadata") or {}
        metadata = Metadata(
            name=str(raw.get("name") or ""),
            namespace=str(raw.get("namespace") or "default"),
            uid=str(raw.get("uid") or ""),
            generation=int(raw.get("generation") or 1),
        )
        return BrokenPool(metadata, error.problems, manifest.get("status") or {})
