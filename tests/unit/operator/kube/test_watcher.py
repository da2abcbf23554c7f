"""What the watches tell, what the lists find that they did not, and when a watch counts as dead."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postfleet_operator import handlers
from postfleet_operator.handlers import DEAF_SECONDS, Watcher
from postfleet_operator.kube.cache import Cache
from postfleet_operator.kube.objects import PodView
from postfleet_operator.kube.secrets import Secrets
from unit.operator.building import manifest, node_manifest


class Server:
    """An API server of a few objects: what a Watcher and Secrets ask of `Api`."""

    def __init__(self) -> None:
        self.objects: dict[str, list[dict[str, Any]]] = {}
        self.version = 100
        self.reads = 0

    def list(self, path: str, selector: str, take: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        for item in self.objects.get(path.rsplit("/", 1)[1], []):
            take(item)
        return {"metadata": {"resourceVersion": str(self.version)}}

    def get(self, path: str) -> dict[str, Any]:
        self.reads += 1
        return next(o for o in self.objects["secrets"] if o["metadata"]["name"] == path.rsplit("/", 1)[1])


class World:
    def __init__(self) -> None:
        self.server, self.cache = Server(), Cache()
        self.wakes, self.gone = 0, list[str]()
        self.secrets = Secrets(self.server)  # type: ignore[arg-type]
        self.watcher = Watcher(self.server, self.cache, self.secrets, (), self._wake, self._gone)  # type: ignore[arg-type]

    def _wake(self) -> None:
        self.wakes += 1

    def _gone(self, view: PodView) -> None:
        self.gone.append(view.pod.name)


def versioned(given: dict[str, Any], version: int, namespace: str = "default") -> dict[str, Any]:
    metadata = {**given["metadata"], "namespace": namespace, "resourceVersion": str(version)}
    return {**given, "metadata": metadata}


def pod(name: str, version: int) -> dict[str, Any]:
    labels = {"postfleet.io/pool": "email", "postfleet.io/node": "shared"}
    metadata = {"name": name, "labels": labels, "creationTimestamp": "2026-01-01T00:00:00Z"}
    return versioned({"metadata": metadata, "status": {}}, version)


def secret(name: str, version: int, content: str, **labels: str) -> dict[str, Any]:
    return versioned({"metadata": {"name": name, "labels": labels}, "data": {"password": content}}, version)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [1000.0]
    monkeypatch.setattr(handlers.clock, "monotonic", lambda: seconds[0])
    return seconds


def test_what_is_heard_is_cached_and_wakes_the_loops() -> None:
    world = World()
    world.watcher.hear("jobpools", {"type": "ADDED", "object": versioned(manifest(), 5)})
    world.watcher.hear("sendingnodes", {"type": None, "object": versioned(node_manifest(), 6)})
    assert [pool.key for pool in world.cache.pools.all()] == ["default/email"]
    assert [node.key for node in world.cache.nodes.all()] == ["default/acme-1"]
    assert world.wakes == 2
    world.watcher.hear("jobpools", {"type": "DELETED", "object": versioned(manifest(), 7)})
    assert world.cache.pools.all() == []


def test_lists_find_what_went_unheard_deletions_too() -> None:
    world = World()
    for number in (1, 2):
        world.watcher.hear("pods", {"type": "ADDED", "object": pod(f"p{number}", number)})
    world.server.objects = {"pods": [pod("p2", 2), pod("p3", 50)], "jobpools": [versioned(manifest(), 60)]}
    assert not world.cache.synced()
    world.watcher.relist()
    assert world.cache.synced()
    assert sorted(view.pod.name for view in world.cache.pods.all()) == ["p2", "p3"]
    assert world.gone == ["p1"]
    assert [pool.key for pool in world.cache.pools.all()] == ["default/email"]


def test_a_watch_that_does_not_tell_what_a_list_has_is_dead_after_a_while(now: list[float]) -> None:
    world = World()
    world.server.objects = {"jobpools": [versioned(manifest(), 60)]}
    world.watcher.relist()
    assert world.watcher.deaf() == []
    now[0] += DEAF_SECONDS + 1
    assert world.watcher.deaf() == ["jobpools"]
    world.watcher.hear("jobpools", {"type": "MODIFIED", "object": versioned(manifest(), 60)})
    assert world.watcher.deaf() == []


def test_a_watch_that_is_merely_late_is_not_dead(now: list[float]) -> None:
    world = World()
    world.watcher.hear("jobpools", {"type": "ADDED", "object": versioned(manifest(), 5)})
    for version in (60, 70, 80):
        world.server.objects = {"jobpools": [versioned(manifest(), version)]}
        world.watcher.relist()
        now[0] += DEAF_SECONDS / 2
        world.watcher.hear("jobpools", {"type": "MODIFIED", "object": versioned(manifest(), version)})
        now[0] += DEAF_SECONDS
        assert world.watcher.deaf() == []


def test_the_content_of_a_secret_is_read_once_until_it_changes() -> None:
    world = World()
    world.server.objects = {"secrets": [secret("login", 5, "YQ==")]}
    for _ in range(3):
        assert world.secrets.read("default", "login") == {"password": "a"}
    assert world.server.reads == 1
    world.watcher.hear("secrets", {"type": None, "object": secret("login", 5, "YQ==")})
    world.watcher.hear("secrets", {"type": "MODIFIED", "object": secret("other", 6, "Yg==")})
    assert world.secrets.read("default", "login") == {"password": "a"}
    assert (world.server.reads, world.wakes) == (1, 0)
    world.server.objects = {"secrets": [secret("login", 7, "Yg==")]}
    world.watcher.hear("secrets", {"type": "MODIFIED", "object": secret("login", 7, "Yg==")})
    assert world.secrets.read("default", "login") == {"password": "b"}
    assert world.wakes == 1


def test_changes_of_a_secret_are_counted_as_far_as_they_are_heard() -> None:
    world = World()
    ours = secret("email-nodes", 7, "bmV3", **{"postfleet.io/pool": "email"})
    world.server.objects["secrets"] = [ours]
    assert world.secrets.changes("default", "email-nodes") == 0
    world.watcher.hear("secrets", {"type": None, "object": ours})
    assert world.secrets.changes("default", "email-nodes") == 0
    world.watcher.hear("secrets", {"type": "MODIFIED", "object": ours})
    assert world.secrets.changes("default", "email-nodes") == 1
    world.watcher.relist()
    assert world.secrets.changes("default", "email-nodes") == 1, "a list tells of no change"
    world.server.objects["secrets"] = []
    world.watcher.relist()
    assert world.secrets.changes("default", "email-nodes") == 2, "but of a deletion"


def test_changes_of_secrets_that_nobody_asks_for_are_not_kept() -> None:
    world = World()
    world.watcher.hear("secrets", {"type": "ADDED", "object": secret("other", 7, "bmV3")})
    world.watcher.hear("secrets", {"type": "MODIFIED", "object": secret("other", 8, "bmV3")})
    assert world.secrets.changes("default", "other") == 0
    assert world.wakes == 0
