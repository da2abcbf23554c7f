"""The operator's Cluster on this machine: pools and nodes come from manifests, Deployments are `Processes`.

`update` takes in newly read manifests; the threads of the operator's loops call the rest. There is one namespace: names
alone tell resources apart. Status and Events go to files under the fleet's folder, in the place of `kubectl get` and
`describe`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from postfleet_local.processes import Processes
from postfleet_operator.cluster import BrokenNode, BrokenPool, Pod, Resource, Stray, Workload
from postfleet_operator.manifests import Manifests
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool, SendingNode
from postfleet_operator.workerset import WorkerSet

Teller = Callable[[str], None]
OPERATOR = "operator"
"""In the place of a resource's name, in Events about the fleet as a whole."""

Given = TypeVar("Given", JobPool, SendingNode)


class ProcessCluster:
    """Implements `postfleet_operator.cluster.Cluster`.

    Args:
        processes: where replicas run.
        directory: gets `status/<pool>.json`, `status/node-<node>.json` and `events.log`.
        tell: is given one line for every Event.
    """

    def __init__(self, processes: Processes, directory: Path, tell: Teller) -> None:
        self.processes = processes
        self._directory = directory
        self._tell = tell
        self._lock = threading.Lock()
        self._pools: dict[str, JobPool] = {}
        self._nodes: dict[str, SendingNode] = {}
        self._secrets: set[str] = set()
        self._generations: dict[str, int] = {}
        self._owners: dict[str, str] = {}  # of each Deployment, its pool
        (directory / "status").mkdir(parents=True, exist_ok=True)

    def update(self, manifests: Manifests) -> None:
        """Make the manifests the fleet's."""
        for secret in manifests.secrets:
            self.processes.put_secret(secret.name, {key: value.encode() for key, value in secret.data.items()})
        with self._lock:
            names = {secret.name for secret in manifests.secrets}
            for name in self._secrets - names:
                self.processes.delete_secret(name)
            before = self._files()
            self._secrets = names
            self._pools = {pool.name: self._successor(self._pools, pool) for pool in manifests.pools}
            self._nodes = {node.name: self._successor(self._nodes, node) for node in manifests.nodes}
            gone = [name for name, pool in self._owners.items() if pool not in self._pools]
            for file in before - self._files():
                file.unlink(missing_ok=True)
            for name in gone:  # as the garbage collector does
                self._delete(name)

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """Every pool of the manifests."""
        with self._lock:
            return tuple(self._pools.values())

    def nodes(self) -> Sequence[SendingNode | BrokenNode]:
        """Every node of the manifests."""
        with self._lock:
            return tuple(self._nodes.values())

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:  # noqa: ARG002 - there is one
        """A Secret of the manifests, or one that was applied."""
        data = self.processes.secret(name)
        return None if data is None else {key: value.decode() for key, value in data.items()}

    def secret_changes(self, namespace: str, name: str) -> int:  # noqa: ARG002 - nobody else writes any
        """None that the operator has not made itself."""
        return 0

    def observe(self, workers: WorkerSet) -> Workload:
        """The set's replicas as they are now."""
        status = self.processes.status(workers.name)
        if status is None:
            return Workload()
        pods = tuple(Pod(pod.name, pod.created_at, pod.ready_at, stopping=pod.stopping) for pod in status.pods)
        return Workload(exists=True, replicas=status.desired, ready=status.ready, present=status.replicas, pods=pods)

    def apply(self, workers: WorkerSet, deployment: Mapping[str, Any]) -> None:
        """Take the rendered pod template; a changed one is rolled out."""
        with self._lock:
            if self._wanted(workers):
                self._owners[workers.name] = workers.pool.name
                self.processes.put_deployment(workers.name, deployment["spec"]["template"])

    def apply_secret(self, workers: WorkerSet, secret: Mapping[str, Any]) -> None:
        """Write the files that the set's workers see."""
        with self._lock:
            if self._wanted(workers):
                files = {name: value.encode() for name, value in secret["stringData"].items()}
                self.processes.put_secret(secret["metadata"]["name"], files)

    def scale(self, workers: WorkerSet, replicas: int, first_to_go: Sequence[str] = ()) -> None:
        """Start or stop replicas."""
        with self._lock:
            if self._wanted(workers) and workers.name in self._owners:
                self.processes.set_replicas(workers.name, replicas, first_to_go)

    def release(self, workers: WorkerSet) -> None:
        """Nobody else is here who could want another number."""

    def strays(self, wanted: Iterable[WorkerSet]) -> Sequence[Stray]:
        """Deployments of nodes that are served elsewhere now."""
        names = {workers.name for workers in wanted}
        with self._lock:
            return [Stray("Deployment", "default", name) for name in self._owners if name not in names]

    def remove(self, stray: Stray) -> None:
        """Stop its replicas, gracefully; they keep their files until they end."""
        with self._lock:
            self._delete(stray.name)

    def patch_status(self, resource: Resource, status: Mapping[str, Any]) -> None:
        """Keep the status, and write it where people can read it."""
        name = resource.metadata.name
        with self._lock:
            match resource:
                case JobPool() if name in self._pools:
                    self._pools[name] = replace(self._pools[name], status=dict(status))
                case SendingNode() if name in self._nodes:
                    self._nodes[name] = replace(self._nodes[name], status=dict(status))
                case _:
                    return
            file = self._file(resource)
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(status, indent=2) + "\n")
            temporary.replace(file)

    def event(self, resource: Resource, event_type: EventType, reason: EventReason, message: str) -> None:
        """Write an Event down and tell it."""
        self._record(resource.metadata.name, event_type, reason, message)

    def notice(self, event_type: EventType, reason: EventReason, message: str) -> None:
        """Write an Event about the fleet down and tell it."""
        self._record(OPERATOR, event_type, reason, message)

    def _record(self, name: str, event_type: EventType, reason: EventReason, message: str) -> None:
        line = f"{name}: {reason}: {message}"
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with (self._directory / "events.log").open("a", encoding="utf-8") as log:
            log.write(f"{at} {event_type} {line}\n")
        self._tell(line)

    def _wanted(self, workers: WorkerSet) -> bool:
        """Whether the manifests still have it: a loop may act on what it read a moment ago."""
        return workers.pool.name in self._pools and (workers.node is None or workers.node.name in self._nodes)

    def _delete(self, name: str) -> None:
        pool = self._owners.pop(name, None)
        if pool is not None:
            self.processes.delete_deployment(name)
            self.processes.delete_secret(f"{name}-nodes")

    def _files(self) -> set[Path]:
        return {self._file(pool) for pool in self._pools.values()} | {self._file(node) for node in self._nodes.values()}

    def _file(self, resource: Resource) -> Path:
        prefix = "node-" if isinstance(resource, SendingNode | BrokenNode) else ""
        return self._directory / "status" / f"{prefix}{resource.metadata.name}.json"

    def _successor(self, known: Mapping[str, Given], given: Given) -> Given:
        before, kind = known.get(given.name), type(given).__name__
        generation = self._generations.get(f"{kind}/{given.name}", 0) + (before is None or before.spec != given.spec)
        self._generations[f"{kind}/{given.name}"] = generation
        status = given.status if before is None else before.status
        return replace(given, metadata=replace(given.metadata, generation=generation), status=status)
