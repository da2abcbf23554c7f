"""What the API server has, as last heard of: filled by kopf's watches, by lists, and by answers to our own writes.

Safe for all threads. An object that is older than the one at hand is not taken; one that was deleted stays deleted
until a newer one of its name comes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from postfleet_operator.cluster import BrokenNode, BrokenPool, read_node, read_pool
from postfleet_operator.kube import objects
from postfleet_operator.kube.objects import DeploymentView, Owned, PodView
from postfleet_operator.spec import JobPool, SendingNode

Name = tuple[str, str]
V = TypeVar("V")


@dataclass(slots=True)
class _Kept(Generic[V]):
    version: int
    value: V | None
    until: int = 0
    amend: Callable[[V], V] | None = None


@dataclass(slots=True)
class Kind(Generic[V]):
    """The objects of one kind, by namespace and name.

    Attributes:
        read: makes a manifest a value.
        synced: whether a whole list has come in.
        revision: counts changes.
    """

    read: Callable[[Mapping[str, Any]], V]
    synced: bool = False
    revision: int = 0
    _kept: dict[Name, _Kept[V]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, manifest: Mapping[str, Any]) -> V | None:
        """Take an object in; what it took the place of."""
        name, version = name_of(manifest), version_of(manifest)
        with self._lock:
            before = self._kept.get(name)
            if before is not None and before.version >= version:
                return before.value
        value = self.read(manifest)
        with self._lock:
            before = self._kept.get(name)
            if before is not None and before.version >= version:
                return before.value
            kept = self._kept[name] = _Kept(version, value)
            if before is not None and before.amend is not None and version < before.until:
                kept.value, kept.until, kept.amend = before.amend(value), before.until, before.amend
            self.revision += 1
        return before.value if before is not None else None

    def remove(self, manifest: Mapping[str, Any]) -> V | None:
        """Forget an object; what it was when it was last seen."""
        name, version = name_of(manifest), version_of(manifest)
        with self._lock:
            before = self._kept.get(name)
            if before is not None and before.version > version:
                return None
            self._kept[name] = _Kept(version, None)
            self.revision += 1
        return before.value if before is not None else None

    def amend(self, name: Name, change: Callable[[V], V], version: int) -> None:
        """Note what a write made of an object, which only the watch will tell: `change`, as of `version`."""
        with self._lock:
            kept = self._kept.get(name)
            if kept is not None and kept.value is not None and kept.version < version:
                kept.value, kept.until, kept.amend = change(kept.value), version, change

    def forget(self, name: Name) -> None:
        """An object that turned out not to be there."""
        with self._lock:
            self._kept.pop(name, None)
            self.revision += 1

    def settle(self, listed: Collection[Name], version: int) -> list[V]:
        """After a whole list as of `version` came in by `put`: what it lacks is gone. Returns what that was."""
        with self._lock:
            lost = [name for name, kept in self._kept.items() if name not in listed and kept.version <= version]
            gone = [self._kept.pop(name).value for name in lost]
            self.synced = True
            self.revision += 1
        return [value for value in gone if value is not None]

    def get(self, namespace: str, name: str) -> V | None:
        """One object."""
        with self._lock:
            kept = self._kept.get((namespace, name))
            return None if kept is None else kept.value

    def all(self) -> list[V]:
        """Every object."""
        with self._lock:
            return [kept.value for kept in self._kept.values() if kept.value is not None]


class Cache:
    """All kinds that the operator watches."""

    def __init__(self) -> None:
        self.pools: Kind[JobPool | BrokenPool] = Kind(read_pool)
        self.nodes: Kind[SendingNode | BrokenNode] = Kind(read_node)
        self.deployments: Kind[DeploymentView] = Kind(objects.deployment)
        self.pods: Kind[PodView] = Kind(objects.pod)
        self.secrets: Kind[Owned] = Kind(objects.owned)  # those with our label; without their content
        self._by_set: dict[tuple[str, str, str], list[PodView]] = {}
        self._by_set_as_of = -1

    def synced(self) -> bool:
        """Whether every kind was listed once."""
        return all(kind.synced for kind in self.kinds().values())

    def kinds(self) -> Mapping[str, Kind[Any]]:
        """Every kind by the plural that the API calls it."""
        return {
            "jobpools": self.pools,
            "sendingnodes": self.nodes,
            "deployments": self.deployments,
            "pods": self.pods,
            "secrets": self.secrets,
        }

    def pods_of(self, namespace: str, pool: str, node: str) -> Sequence[PodView]:
        """The pods of a worker set, by its labels."""
        revision = self.pods.revision
        if self._by_set_as_of != revision:
            found: dict[tuple[str, str, str], list[PodView]] = {}
            for view in self.pods.all():
                found.setdefault((view.namespace, view.pool, view.node), []).append(view)
            self._by_set, self._by_set_as_of = found, revision
        return self._by_set.get((namespace, pool, node), [])


def name_of(manifest: Mapping[str, Any]) -> Name:
    """Namespace and name."""
    metadata = manifest["metadata"]
    return metadata.get("namespace") or "", metadata["name"]


def version_of(manifest: Mapping[str, Any]) -> int:
    """An object's or a list's. Versions of one kind are comparable numbers (KEP-5504)."""
    try:
        return int(manifest["metadata"].get("resourceVersion") or 0)
    except ValueError:
        return 0
