"""The operator's Cluster on this machine: pools come from manifests, Deployments are `Processes`.

`update` takes in newly read manifests; the autoscaler's thread calls the rest. There is one namespace: names alone tell
resources apart. Status and Events go to files under the fleet's folder, in the place of `kubectl get` and `describe`.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from postfleet_local.processes import Processes
from postfleet_operator.cluster import BrokenPool, Workload
from postfleet_operator.credentials import gather
from postfleet_operator.deployment import nodes_secret
from postfleet_operator.manifests import Manifests
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import JobPool

Teller = Callable[[str], None]


class ProcessCluster:
    """Implements `postfleet_operator.cluster.Cluster`.

    Args:
        processes: where replicas run.
        directory: gets `status/<pool>.json` and `events.log`.
        tell: is given one line for every Event.
    """

    def __init__(self, processes: Processes, directory: Path, tell: Teller) -> None:
        self.processes = processes
        self._directory = directory
        self._tell = tell
        self._lock = threading.Lock()
        self._pools: dict[str, JobPool] = {}
        (directory / "status").mkdir(parents=True, exist_ok=True)

    def update(self, manifests: Manifests) -> tuple[str, ...]:
        """Make the manifests the fleet's; returns one line for each login that a node lacks."""
        secrets = {(s.namespace, s.name): s.data for s in manifests.secrets}
        credentials = gather(manifests.nodes, secrets)
        files = {name: content.encode() for name, content in credentials.files.items()}
        for secret in manifests.secrets:
            self.processes.put_secret(secret.name, {key: value.encode() for key, value in secret.data.items()})
        with self._lock:
            before, self._pools = self._pools, {p.name: self._successor(p) for p in manifests.pools}
            gone = before.keys() - self._pools.keys()
            for pool in self._pools.values():
                self.processes.put_secret(nodes_secret(pool), files)
        for name in gone:
            self.processes.delete_deployment(name)
            (self._directory / "status" / f"{name}.json").unlink(missing_ok=True)
        return credentials.problems

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """Every pool of the manifests."""
        with self._lock:
            return tuple(self._pools.values())

    def observe(self, pool: JobPool) -> Workload:
        """The pool's replicas as they are now."""
        status = self.processes.status(pool.name)
        if status is None:
            return Workload()
        return Workload(exists=True, replicas=status.desired, ready=status.ready, present=status.replicas)

    def apply(self, pool: JobPool, deployment: Mapping[str, Any]) -> None:
        """Take the rendered pod template; a changed one is rolled out."""
        with self._lock:
            if pool.name in self._pools:
                self.processes.put_deployment(pool.name, deployment["spec"]["template"])

    def scale(self, pool: JobPool, replicas: int) -> None:
        """Start or stop replicas."""
        with self._lock:
            if pool.name in self._pools:
                self.processes.set_replicas(pool.name, replicas)

    def patch_status(self, pool: JobPool | BrokenPool, status: Mapping[str, Any]) -> None:
        """Keep the status, and write it where people can read it."""
        name = pool.metadata.name
        with self._lock:
            if name not in self._pools:
                return
            self._pools[name] = replace(self._pools[name], status=dict(status))
            file = self._directory / "status" / f"{name}.json"
            temporary = file.with_suffix(".tmp")
            temporary.write_text(json.dumps(status, indent=2) + "\n")
            temporary.replace(file)

    def event(self, pool: JobPool | BrokenPool, event_type: EventType, reason: EventReason, message: str) -> None:
        """Write an Event down and tell it."""
        line = f"{pool.metadata.name}: {reason}: {message}"
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        with (self._directory / "events.log").open("a", encoding="utf-8") as log:
            log.write(f"{at} {event_type} {line}\n")
        self._tell(line)

    def _successor(self, pool: JobPool) -> JobPool:
        before = self._pools.get(pool.name)
        if before is None:
            return pool
        generation = before.metadata.generation + (before.spec != pool.spec)
        return replace(pool, metadata=replace(pool.metadata, generation=generation), status=before.status)
