"""The local fleet's cluster: what its manifests, Deployments, Secrets and files become."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from postfleet_local.cluster import ProcessCluster
from postfleet_local.processes import Processes
from postfleet_local.warden import Warden
from postfleet_operator.cluster import Stray
from postfleet_operator.credentials import render_secret
from postfleet_operator.manifests import Manifests, Secret
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import SendingNode, parse_node
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import node_manifest, pool

SECONDS = 20.0
EMAIL = pool("email")
OWN = {"poolRef": {"name": "email"}, "placement": "Dedicated"}
SLEEP = {"spec": {"template": {"spec": {"containers": [{"name": "w", "command": [sys.executable, "-c", "input()"]}]}}}}


def node(**spec: Any) -> SendingNode:
    return parse_node(node_manifest(**spec))


DEDICATED = WorkerSet(EMAIL, node(workers=OWN))
SHARED = WorkerSet(EMAIL)
LOGIN = Secret("smtp", "default", {"username": "u", "password": "p"})
ALL = Manifests(pools=(EMAIL,), nodes=(node(workers=OWN),), secrets=(LOGIN,))


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def cluster(tmp_path: Path, told: list[str]) -> Iterator[ProcessCluster]:
    with Warden() as warden:
        processes = Processes(tmp_path, warden)
        yield ProcessCluster(processes, tmp_path, told.append)
        processes.close(patience_seconds=0.5)


def test_a_generation_counts_changes_of_a_spec_even_over_a_deletion(cluster: ProcessCluster) -> None:
    generations = []
    for nodes in ([node()], [node()], [node(paused=True)], [], [node(paused=True)]):
        cluster.update(Manifests(pools=(EMAIL,), nodes=tuple(nodes)))
        generations.append([each.metadata.generation for each in cluster.nodes()])
    assert generations == [[1], [1], [2], [], [3]]


def test_a_dedicated_deployment_is_a_stray_once_its_node_is_shared(cluster: ProcessCluster) -> None:
    cluster.update(ALL)
    for workers in (SHARED, DEDICATED):
        cluster.apply(workers, SLEEP)
        cluster.apply_secret(workers, render_secret(workers, {"acme-1.username": "u"}))
    cluster.scale(DEDICATED, 1)
    assert cluster.processes.wait(lambda: cluster.observe(DEDICATED).ready == 1, SECONDS)
    (pod,) = cluster.observe(DEDICATED).pods
    assert pod.name.startswith("email-acme-1-")
    assert cluster.strays([SHARED, DEDICATED]) == []
    (stray,) = cluster.strays([SHARED])
    assert stray == Stray("Deployment", "default", "email-acme-1")
    cluster.remove(stray)
    assert cluster.strays([SHARED]) == []
    assert not cluster.observe(DEDICATED).exists
    assert cluster.secret("default", "email-acme-1-nodes") is None
    assert cluster.secret("default", "email-nodes") == {"acme-1.username": "u"}


def test_what_a_pool_owned_goes_with_it_and_cannot_come_back(cluster: ProcessCluster) -> None:
    cluster.update(ALL)
    cluster.apply(DEDICATED, SLEEP)
    cluster.patch_status(EMAIL, {"phase": "x"})
    cluster.update(Manifests(pools=(pool("other"),)))
    assert cluster.processes.status("email-acme-1") is None
    cluster.apply(DEDICATED, SLEEP)
    cluster.scale(DEDICATED, 1)
    cluster.patch_status(EMAIL, {"phase": "x"})
    assert cluster.processes.status("email-acme-1") is None
    assert list((cluster.processes.directory / "status").iterdir()) == []


def test_a_secret_that_is_taken_out_of_the_manifests_is_gone(cluster: ProcessCluster) -> None:
    cluster.update(ALL)
    assert cluster.secret("default", "smtp") == LOGIN.data
    cluster.update(Manifests(pools=(EMAIL,)))
    assert cluster.secret("default", "smtp") is None


def test_statuses_and_events_are_files(cluster: ProcessCluster, told: list[str]) -> None:
    cluster.update(ALL)
    directory = cluster.processes.directory
    (acme,) = cluster.nodes()
    cluster.patch_status(acme, {"phase": "Active"})
    cluster.patch_status(EMAIL, {"replicas": 1})
    assert json.loads((directory / "status" / "node-acme-1.json").read_text()) == {"phase": "Active"}
    assert json.loads((directory / "status" / "email.json").read_text()) == {"replicas": 1}
    assert cluster.nodes()[0].status == {"phase": "Active"}
    cluster.event(acme, EventType.NORMAL, EventReason.NODE_READY, "fine")
    cluster.notice(EventType.WARNING, EventReason.QUEUE_UNSERVED, "queue lost")
    assert told == ["acme-1: NodeReady: fine", "operator: QueueUnserved: queue lost"]
    assert (directory / "events.log").read_text().count("\n") == 2
    cluster.update(Manifests(pools=(EMAIL,)))
    assert {file.name for file in (directory / "status").iterdir()} == {"email.json"}
