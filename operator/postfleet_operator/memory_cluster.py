"""A cluster in memory: the twin of the real ones, for tests and simulations. Pure bookkeeping, no time passes in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postfleet_operator.cluster import BrokenPool, Workload, read_pool
from postfleet_operator.errors import OperatorError
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool


@dataclass(frozen=True, slots=True)
class Event:
    """An Event as recorded."""

    pool: str
    type: EventType
    reason: EventReason
    message: str


class MemoryCluster:
    """Implements `Cluster`.

    Attributes:
        deployments: what was applied last, by pool key.
        statuses: what was written last, by pool key.
        events: every Event, in order.
        calls: names of the writing calls, in order, as (call, pool key).
        failures: raised by every call for a pool key, until removed.
        instant: whether new workers are ready at once; else `become_ready` says when.
    """

    def __init__(self, *, instant: bool = False) -> None:
        self.deployments: dict[str, Mapping[str, Any]] = {}
        self.statuses: dict[str, Mapping[str, Any]] = {}
        self.events: list[Event] = []
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, OperatorError] = {}
        self.instant = instant
        self._manifests: dict[str, dict[str, Any]] = {}
        self._replicas: dict[str, int] = {}
        self._ready: dict[str, int] = {}

    def put(self, manifest: Mapping[str, Any]) -> None:
        """Create or replace a JobPool, as `kubectl apply` would; counts up its generation."""
        metadata = dict(manifest["metadata"])
        key = f"{metadata.get('namespace') or 'default'}/{metadata['name']}"
        generation = int(self._manifests.get(key, {}).get("metadata", {}).get("generation", 0)) + 1
        self._manifests[key] = {**manifest, "metadata": {**metadata, "generation": generation}}

    def remove(self, key: str) -> None:
        """Delete a JobPool and, as the garbage collector does, its Deployment."""
        for store in (self._manifests, self.deployments, self.statuses, self._replicas, self._ready):
            store.pop(key, None)

    def become_ready(self, key: str) -> None:
        """Let every worker that was asked for be ready."""
        self._ready[key] = self._replicas.get(key, 0)

    def replicas(self, key: str) -> int:
        """What the Deployment asks for."""
        return self._replicas.get(key, 0)

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """See `Cluster`."""
        return [
            read_pool({**manifest, "status": self.statuses.get(key, {})}) for key, manifest in self._manifests.items()
        ]

    def observe(self, pool: JobPool) -> Workload:
        """See `Cluster`."""
        self._fail(pool)
        replicas, ready = self._replicas.get(pool.key, 0), self._ready.get(pool.key, 0)
        return Workload(exists=pool.key in self.deployments, replicas=replicas, ready=ready, present=replicas)

    def apply(self, pool: JobPool, deployment: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        self._record("apply", pool)
        self._replicas.setdefault(pool.key, 0)
        self.deployments[pool.key] = deployment

    def scale(self, pool: JobPool, replicas: int) -> None:
        """See `Cluster`."""
        self._record("scale", pool)
        self._replicas[pool.key] = replicas
        self._ready[pool.key] = replicas if self.instant else min(self._ready.get(pool.key, 0), replicas)

    def patch_status(self, pool: JobPool | BrokenPool, status: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        self.calls.append(("patch_status", pool.key))
        self.statuses[pool.key] = status

    def event(self, pool: JobPool | BrokenPool, event_type: EventType, reason: EventReason, message: str) -> None:
        """See `Cluster`."""
        self.events.append(Event(pool.key, event_type, reason, message))

    def _record(self, call: str, pool: JobPool) -> None:
        self._fail(pool)
        self.calls.append((call, pool.key))

    def _fail(self, pool: JobPool) -> None:
        if failure := self.failures.get(pool.key):
            raise failure
