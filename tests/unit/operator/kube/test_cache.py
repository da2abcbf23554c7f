"""The cache under watches, lists and answers that come in any order."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.kube import objects
from postfleet_operator.kube.cache import Cache, Kind


def thing(name: str, version: int, **more: Any) -> dict[str, Any]:
    return {"metadata": {"namespace": "n", "name": name, "resourceVersion": str(version)}, **more}


@pytest.fixture
def kind() -> Kind[int]:
    return Kind(lambda manifest: int(manifest["metadata"]["resourceVersion"]))


def test_what_is_older_is_not_taken(kind: Kind[int]) -> None:
    kind.put(thing("a", 5))
    kind.put(thing("a", 4))
    assert kind.get("n", "a") == 5


def test_what_was_deleted_stays_so_until_a_newer_one_comes(kind: Kind[int]) -> None:
    kind.put(thing("a", 5))
    assert kind.remove(thing("a", 6)) == 5
    kind.put(thing("a", 5))
    assert kind.get("n", "a") is None
    kind.put(thing("a", 7))
    assert kind.get("n", "a") == 7
    assert kind.remove(thing("a", 6)) is None
    assert kind.get("n", "a") == 7


def test_what_a_list_lacks_is_gone_unless_it_came_later(kind: Kind[int]) -> None:
    for name, version in (("a", 5), ("b", 6), ("c", 20)):
        kind.put(thing(name, version))
    kind.remove(thing("d", 7))
    kind.put(thing("a", 8))
    assert kind.settle({("n", "a")}, 10) == [6]
    assert sorted(kind.all()) == [8, 20]
    assert kind.synced


def test_tombstones_are_not_kept_for_ever(kind: Kind[int]) -> None:
    for number in range(1, 100):
        kind.put(thing(f"p{number}", number))
        kind.remove(thing(f"p{number}", number))
    kind.settle(set(), 1000)
    assert len(kind._kept) == 0


def test_a_write_shows_until_the_watch_tells_of_it(kind: Kind[int]) -> None:
    kind.put(thing("a", 5))
    kind.amend(("n", "a"), lambda value: value + 90, 8)
    assert kind.get("n", "a") == 95
    kind.put(thing("a", 6))  # on its way since before the write
    assert kind.get("n", "a") == 96
    kind.put(thing("a", 8))
    assert kind.get("n", "a") == 8


def test_a_write_that_the_watch_has_told_of_already_changes_nothing(kind: Kind[int]) -> None:
    kind.put(thing("a", 9))
    kind.amend(("n", "a"), lambda value: value + 90, 8)
    assert kind.get("n", "a") == 9


def pod(name: str, version: int, pool: str = "email", node: str = "shared", **status: Any) -> dict[str, Any]:
    manifest = thing(name, version, status=status)
    manifest["metadata"] |= {
        "labels": {"postfleet.io/pool": pool, "postfleet.io/node": node},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    }
    return manifest


def test_pods_are_found_by_their_worker_set() -> None:
    cache = Cache()
    cache.pods.put(pod("a", 1))
    cache.pods.put(pod("b", 2, node="berlin"))
    assert [view.pod.name for view in cache.pods_of("n", "email", "shared")] == ["a"]
    cache.pods.put(pod("c", 3))
    cache.pods.remove(pod("a", 4))
    assert [view.pod.name for view in cache.pods_of("n", "email", "shared")] == ["c"]
    assert cache.pods_of("n", "email", "rome") == []


@pytest.mark.parametrize(
    ("status", "ready", "unschedulable", "ended"),
    [
        pytest.param({}, None, False, False, id="new"),
        pytest.param(
            {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:04Z"}]},
            4.0,
            False,
            False,
            id="ready",
        ),
        pytest.param(
            {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}]},
            None,
            True,
            False,
            id="no place",
        ),
        pytest.param({"containerStatuses": [{"state": {"terminated": {}}}]}, None, False, True, id="ended"),
        pytest.param({"containerStatuses": [{"state": {"running": {}}}]}, None, False, False, id="runs"),
        pytest.param({"phase": "Failed"}, None, False, True, id="failed"),
    ],
)
def test_what_is_read_of_a_pod(status: dict[str, Any], ready: float | None, unschedulable: bool, ended: bool) -> None:
    view = objects.pod(pod("a", 1, **status))
    born = view.pod.created_at
    assert view.pod.ready_at == (None if ready is None else born + ready)
    assert (view.pod.unschedulable, view.ended) == (unschedulable, ended)


@pytest.mark.parametrize(
    ("before", "after", "patch"),
    [
        ({}, {}, {}),
        ({"a": 1}, {"a": 1}, {}),
        ({"a": 1}, {"a": 2}, {"a": 2}),
        ({"a": 1, "b": 2}, {"a": 1}, {"b": None}),
        ({"a": {"x": 1, "y": 2}}, {"a": {"x": 1, "y": 3}}, {"a": {"y": 3}}),
        ({"a": [1, 2]}, {"a": [1]}, {"a": [1]}),
        ({"a": 1}, {"a": {"x": 1}}, {"a": {"x": 1}}),
        ({}, {"a": {"x": 1}}, {"a": {"x": 1}}),
    ],
)
def test_only_what_differs_is_patched(before: dict[str, Any], after: dict[str, Any], patch: dict[str, Any]) -> None:
    assert objects.merge_patch(before, after) == patch
