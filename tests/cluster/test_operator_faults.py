"""The operator outlives what its API server, its watches, Redis and PostgreSQL do to it, without a restart."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_worlds import World
from operators import eventually, node, pool
from proxy import Proxy
from servers import ControlPlane

BACKLOG = {"target": {"backlogPerReplica": 100}, "scaleDown": {"stabilizationWindowSeconds": 0}, "cooldownSeconds": 0}


@pytest.fixture
def proxy(plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(plane, tmp_path)
    proxy.start()
    yield proxy
    proxy.stop()


def test_a_killed_api_server_is_waited_for(world: World, plane: ControlPlane) -> None:
    world.backlog(100)
    operator = world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    plane.apiserver.kill()
    world.backlog(300)
    eventually(lambda: operator.logged("lease_not_renewed"))
    plane.restart_apiserver()
    world.scaled(3, seconds=40)
    assert operator.program.alive()
    eventually(lambda: operator.asks("/healthz"), lambda found: found[0] == 200)
    # Watches work again too: a new pool is noticed.
    world.apply(pool("later", queues=["later"]))
    eventually(lambda: world.get("deployment", "later"), lambda found: found is not None)


def test_an_api_server_that_hangs_is_waited_for(world: World, plane: ControlPlane) -> None:
    world.backlog(100)
    operator = world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    plane.apiserver.send(signal.SIGSTOP)
    world.backlog(300)
    eventually(lambda: operator.logged("lease_not_renewed"))
    plane.apiserver.send(signal.SIGCONT)
    world.scaled(3, seconds=40)
    assert operator.program.alive()


@pytest.mark.parametrize("status", [429, 410, 500])
def test_refusals_are_tried_again(world: World, proxy: Proxy, status: int) -> None:
    world.backlog(100)
    operator = world.operator(kubeconfig=proxy.kubeconfig)
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    proxy.refuse = lambda method, path: status if method == "PATCH" else None
    world.backlog(300)
    eventually(lambda: operator.logged("pool_failed"))
    proxy.refuse = lambda method, path: None
    world.scaled(3)


def test_a_slow_api_server_only_makes_it_slow(world: World, proxy: Proxy) -> None:
    world.backlog(100)
    world.operator(kubeconfig=proxy.kubeconfig)
    proxy.delay_seconds = 1.0
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1, seconds=40)
    world.backlog(300)
    world.scaled(3, seconds=40)


def test_cut_watches_begin_again_and_what_went_unheard_is_found(world: World, proxy: Proxy) -> None:
    world.backlog(0)
    operator = world.operator(kubeconfig=proxy.kubeconfig, relist_seconds="5")
    world.apply(pool("first", queues=["first"]))
    eventually(lambda: world.get("deployment", "first"), lambda found: found is not None)
    assert proxy.cut_watches() >= 4
    world.apply(pool("second", queues=["second"]))
    eventually(lambda: world.get("deployment", "second"), lambda found: found is not None)
    # Watches that are open and never tell: lists find what they keep to themselves, deletions too.
    proxy.silent = True
    proxy.cut_watches()
    world.apply(pool("third", queues=["third"]))
    eventually(lambda: world.get("deployment", "third"), lambda found: found is not None)
    world.kubectl("delete", "jobpool", "third")
    eventually(lambda: world.get("deployment", "third"), lambda found: found is None)
    eventually(lambda: operator.logged("gone_unheard"))


@pytest.mark.parametrize(
    ("status", "sign"),
    [(500, "Request attempt #6"), (403, "Request attempt #6"), (404, "watches_ended")],
    ids=["broken", "forbidden", "definitions gone"],
)
def test_watches_come_back_after_a_server_that_refused_for_long(
    world: World, proxy: Proxy, status: int, sign: str
) -> None:
    world.backlog(0)
    operator = world.operator(kubeconfig=proxy.kubeconfig, relist_seconds="3600")  # watches only
    world.apply(pool("first", queues=["first"]))
    eventually(lambda: world.get("deployment", "first"), lambda found: found is not None)
    proxy.refuse = lambda method, path: status if method == "GET" and "leases" not in path else None

    def seen() -> object:
        proxy.cut_watches()  # again: one may have been asked for before the refusals began, and have opened since
        return [line for line in operator.lines() if str(line.get("event")).startswith(sign)]

    eventually(seen, seconds=60)
    assert operator.asks("/healthz")[0] == 200
    proxy.refuse = lambda method, path: None
    world.apply(pool("later", queues=["later"]))
    eventually(lambda: world.get("deployment", "later"), lambda found: found is not None)


def test_a_creation_that_was_interrupted_starts_no_worker(world: World, proxy: Proxy) -> None:
    world.backlog(0)
    world.operator(kubeconfig=proxy.kubeconfig)
    proxy.refuse = lambda method, path: 500 if method == "PATCH" and path.split("?")[0].endswith("/scale") else None
    world.apply(pool(mode="Recommend", autoscaling=BACKLOG))  # which never sets the number
    eventually(lambda: proxy.calls["PATCH", "deployments/scale"], lambda calls: calls >= 2)
    proxy.refuse = lambda method, path: None
    eventually(lambda: world.condition("Ready")[0], lambda found: found == "True")
    text = world.kubectl("get", "deployment", "email", "-o", "json", "--show-managed-fields")
    assert '"manager": "postfleet-autoscaler"' in text
    assert world.replicas() == 0


def test_a_deployment_that_went_unheard_is_made_again_when_it_is_needed(world: World, proxy: Proxy) -> None:
    world.backlog(100)
    world.operator(kubeconfig=proxy.kubeconfig, relist_seconds="3600")
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    proxy.silent = True
    world.kubectl("delete", "deployment", "email")
    world.backlog(300)
    world.scaled(3)


def test_it_ends_within_seconds_beside_an_api_server_that_hangs(world: World, plane: ControlPlane) -> None:
    world.backlog(100)
    operator = world.operator()
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    plane.apiserver.send(signal.SIGSTOP)
    try:
        world.backlog(300)
        eventually(lambda: operator.logged("lease_not_renewed"))
        began = time.monotonic()
        assert operator.stop() == 0
        assert time.monotonic() - began < 20
    finally:
        plane.apiserver.send(signal.SIGCONT)


def test_without_redis_the_pool_holds_and_says_so(world: World) -> None:
    world.backlog(300)
    world.operator(redis_url="redis://127.0.0.1:1/0")
    world.apply(pool(mode="Manual", replicas=2))
    world.scaled(2)
    world.apply(pool(autoscaling=BACKLOG))
    eventually(lambda: world.condition("SignalHealthy")[0], lambda found: found == "False")
    assert world.replicas() == 2


def test_without_postgresql_pools_are_scaled_and_nodes_wait(world: World) -> None:
    world.backlog(300)
    world.operator(database_url="postgresql://nobody@127.0.0.1:1/none")
    world.apply(pool(autoscaling=BACKLOG), node())
    world.scaled(3)
    eventually(lambda: world.condition("Mirrored", "acme-1", "sendingnode")[0], lambda found: found == "False")
    world.backlog(500)
    world.scaled(5)
