"""How fast the operator follows, and what it costs the API server. `make bench-operator` measures with more of all."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_worlds import World
from operators import eventually, pool
from proxy import Proxy
from servers import ControlPlane

POLLING_SECONDS = 2.0
BURST_REPLICAS = 20
POOLS = 30
WRITES = {"POST", "PUT", "PATCH", "DELETE"}
BACKLOG = {"target": {"backlogPerReplica": 100}, "pollingIntervalSeconds": int(POLLING_SECONDS)}
LATENCY = {"target": {"latencySeconds": 5}, "pollingIntervalSeconds": int(POLLING_SECONDS)}
# What a pool's status remembers of workers that are gone.
KNOWN = {"throughputPerReplica": "50", "startupSeconds": "1"}


@pytest.fixture
def proxy(plane: ControlPlane, tmp_path: Path) -> Iterator[Proxy]:
    proxy = Proxy(plane, tmp_path)
    proxy.start()
    yield proxy
    proxy.stop()


@pytest.mark.parametrize(
    ("autoscaling", "known", "jobs"),
    [pytest.param(BACKLOG, {}, 2000, id="backlog"), pytest.param(LATENCY, KNOWN, 4000, id="latency")],
)
def test_a_burst_brings_twenty_workers_at_the_next_look(
    world: World, autoscaling: dict[str, Any], known: dict[str, str], jobs: int
) -> None:
    world.backlog(0)
    world.apply(pool(autoscaling=autoscaling))
    world.kubectl("patch", "jobpool/email", "--subresource=status", "--type=merge", "-p", json.dumps({"status": known}))
    world.operator()
    world.scaled(0)
    eventually(lambda: world.condition("SignalHealthy")[0], lambda found: found == "True")
    began = time.monotonic()
    world.backlog(jobs)
    world.scaled(BURST_REPLICAS)
    assert time.monotonic() - began < POLLING_SECONDS + 3


def test_pools_at_rest_cost_the_api_server_nothing_but_the_lease(world: World, proxy: Proxy) -> None:
    names = [f"pool-{number}" for number in range(POOLS)]
    for name in names:
        world.record(name)
    world.apply(*(pool(name, queues=[name], autoscaling=BACKLOG) for name in names))
    world.operator(kubeconfig=proxy.kubeconfig)
    eventually(lambda: len(world.items("deployment")), lambda found: found == POOLS)

    def writes() -> set[tuple[str, str]]:
        """Those within three renewals of the Lease, and so within three looks at every pool."""
        proxy.calls.clear()
        eventually(lambda: proxy.calls["PUT", "leases"], lambda found: found >= 3)
        return {call for call in proxy.calls if call[0] in WRITES}

    eventually(writes, lambda found: found == {("PUT", "leases")}, 60)
