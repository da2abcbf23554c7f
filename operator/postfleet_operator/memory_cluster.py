"""A cluster in memory: the twin of the real ones, for tests and simulations. Pure bookkeeping, no time passes in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postfleet_operator.cluster import BrokenNode, BrokenPool, Pod, Resource, Stray, Workload, read_node, read_pool
from postfleet_operator.errors import OperatorError
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool, SendingNode
from postfleet_operator.workerset import WorkerSet


@dataclass(frozen=True, slots=True)
class Event:
    """An Event as recorded; `resource` is `namespace/name`, empty for a notice."""

    resource: str
    type: EventType
    reason: EventReason
    message: str


class MemoryCluster:
    """Implements `Cluster`. Pools and worker sets go by their keys, nodes by theirs.

    Attributes:
        deployments: what was applied last, by worker set key.
        applied_secrets: the node Secrets that were applied last, by worker set key.
        secrets: what `secret` answers, by (namespace, name). What is changed here, nobody hears of.
        statuses: what was written last, by (kind, key).
        events: every Event, in order.
        calls: names of the writing calls, in order, as (call, key).
        failures: raised by every call for a key, until removed.
        first_to_go: the pods that the last `scale` of a key named.
        now: when new pods are created, epoch seconds.
        instant: whether new workers are ready at once; else `become_ready` says when.
    """

    def __init__(self, *, instant: bool = False) -> None:
        self.deployments: dict[str, Mapping[str, Any]] = {}
        self.applied_secrets: dict[str, Mapping[str, Any]] = {}
        self.secrets: dict[tuple[str, str], Mapping[str, str]] = {}
        self.statuses: dict[tuple[str, str], Mapping[str, Any]] = {}
        self.events: list[Event] = []
        self.calls: list[tuple[str, str]] = []
        self.failures: dict[str, OperatorError] = {}
        self.first_to_go: dict[str, tuple[str, ...]] = {}
        self.released: set[str] = set()
        self.now = 0.0
        self.instant = instant
        self._changes: Counter[tuple[str, str]] = Counter()
        self._manifests: dict[tuple[str, str], dict[str, Any]] = {}
        self._replicas: dict[str, int] = {}
        self._pods: dict[str, list[Pod]] = {}
        self._places: dict[str, Stray] = {}
        self._born = 0

    def put(self, manifest: Mapping[str, Any]) -> None:
        """Create or replace a resource, as `kubectl apply` would; counts up its generation."""
        metadata = dict(manifest["metadata"])
        key = f"{metadata.get('namespace') or 'default'}/{metadata['name']}"
        place = (str(manifest["kind"]), key)
        generation = int(self._manifests.get(place, {}).get("metadata", {}).get("generation", 0)) + 1
        self._manifests[place] = {**manifest, "metadata": {**metadata, "generation": generation}}

    def remove_resource(self, kind: str, key: str) -> None:
        """Delete a resource and, as the garbage collector does, what a pool owned."""
        self._manifests.pop((kind, key), None)
        self.statuses.pop((kind, key), None)
        if kind == "JobPool":
            for owned in [other for other in self._places if other == key or other.startswith(f"{key}@")]:
                self._forget(owned)

    def put_secret(self, namespace: str, name: str, content: Mapping[str, str]) -> None:
        """Write a Secret as somebody else would."""
        self.secrets[namespace, name] = dict(content)
        self._changes[namespace, name] += 1

    def delete_secret(self, namespace: str, name: str) -> None:
        """Delete a Secret as somebody else would."""
        self.secrets.pop((namespace, name), None)
        self._changes[namespace, name] += 1

    def become_ready(self, key: str) -> None:
        """Let every worker that was asked for be ready."""
        self._pods[key] = [
            Pod(pod.name, pod.created_at, pod.ready_at if pod.ready_at is not None else self.now)
            for pod in self._pods.get(key, [])
        ]

    def set_pods(self, key: str, pods: Iterable[Pod]) -> None:
        """Say what the pods of a worker set look like."""
        self._pods[key] = list(pods)

    def set_replicas(self, key: str, replicas: int) -> None:
        """Change a Deployment's number as somebody else would."""
        self._replicas[key] = replicas
        self._fit(key)

    def replicas(self, key: str) -> int:
        """What the Deployment asks for."""
        return self._replicas.get(key, 0)

    def status(self, key: str, kind: str = "JobPool") -> Mapping[str, Any]:
        """The status written last."""
        return self.statuses.get((kind, key), {})

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """See `Cluster`."""
        return [read_pool(manifest) for manifest in self._with_status("JobPool")]

    def nodes(self) -> Sequence[SendingNode | BrokenNode]:
        """See `Cluster`."""
        return [read_node(manifest) for manifest in self._with_status("SendingNode")]

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """See `Cluster`."""
        return self.secrets.get((namespace, name))

    def secret_changes(self, namespace: str, name: str) -> int:
        """See `Cluster`."""
        return self._changes[namespace, name]

    def observe(self, workers: WorkerSet) -> Workload:
        """See `Cluster`."""
        self._fail(workers.key)
        pods = tuple(self._pods.get(workers.key, []))
        living = [pod for pod in pods if not pod.stopping]
        return Workload(
            exists=workers.key in self.deployments,
            replicas=self._replicas.get(workers.key, 0),
            ready=sum(pod.ready_at is not None for pod in living),
            present=len(living),
            pods=pods,
        )

    def apply(self, workers: WorkerSet, deployment: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        self._record("apply", workers.key)
        self._replicas.setdefault(workers.key, 0)
        self._places[workers.key] = Stray("Deployment", workers.namespace, workers.name)
        self.deployments[workers.key] = deployment

    def apply_secret(self, workers: WorkerSet, secret: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        self._record("apply_secret", workers.key)
        self.applied_secrets[workers.key] = secret
        self.put_secret(workers.namespace, secret["metadata"]["name"], secret["stringData"])

    def scale(self, workers: WorkerSet, replicas: int, first_to_go: Sequence[str] = ()) -> None:
        """See `Cluster`."""
        self._record("scale", workers.key)
        self._replicas[workers.key] = replicas
        self.first_to_go[workers.key] = tuple(first_to_go)
        self._fit(workers.key)

    def release(self, workers: WorkerSet) -> None:
        """See `Cluster`."""
        self._record("release", workers.key)
        self.released.add(workers.key)

    def strays(self, wanted: Iterable[WorkerSet]) -> Sequence[Stray]:
        """See `Cluster`."""
        keys = {workers.key for workers in wanted}
        return [stray for key, stray in self._places.items() if key not in keys]

    def remove(self, stray: Stray) -> None:
        """See `Cluster`."""
        for key in [key for key, place in self._places.items() if place == stray]:
            self._record("remove", key)
            self._forget(key)

    def patch_status(self, resource: Resource, status: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        kind = "JobPool" if isinstance(resource, JobPool | BrokenPool) else "SendingNode"
        self.calls.append(("patch_status", resource.metadata.key))
        self.statuses[kind, resource.metadata.key] = status

    def event(self, resource: Resource, event_type: EventType, reason: EventReason, message: str) -> None:
        """See `Cluster`."""
        self.events.append(Event(resource.metadata.key, event_type, reason, message))

    def notice(self, event_type: EventType, reason: EventReason, message: str) -> None:
        """See `Cluster`."""
        self.events.append(Event("", event_type, reason, message))

    def _with_status(self, kind: str) -> list[dict[str, Any]]:
        return [
            {**manifest, "status": self.statuses.get((kind, key), {})}
            for (found, key), manifest in self._manifests.items()
            if found == kind
        ]

    def _fit(self, key: str) -> None:
        """Create or end pods until there are as many as asked for; those named end first, then the youngest."""
        pods, named = self._pods.setdefault(key, []), self.first_to_go.get(key, ())
        while len(pods) > self._replicas[key]:
            pods.remove(next((pod for pod in pods if pod.name in named), pods[-1]))
        while len(pods) < self._replicas[key]:
            self._born += 1
            pods.append(Pod(f"{key.rpartition('/')[2]}-{self._born}", self.now, self.now if self.instant else None))

    def _forget(self, key: str) -> None:
        if applied := self.applied_secrets.pop(key, None):
            self.delete_secret(applied["metadata"]["namespace"], applied["metadata"]["name"])
        for store in (self.deployments, self._replicas, self._pods, self._places):
            store.pop(key, None)

    def _record(self, call: str, key: str) -> None:
        self._fail(key)
        self.calls.append((call, key))

    def _fail(self, key: str) -> None:
        if failure := self.failures.get(key):
            raise failure
