"""What somebody on call types: the command, and the kubectl plugin."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cluster_worlds import World
from operators import eventually, node, pool

PROGRAMS = Path(sys.executable).parent


def run(world: World, *command: str) -> subprocess.CompletedProcess[str]:
    env = {
        **os.environ,
        "KUBECONFIG": str(world.plane.kubeconfig),
        "PATH": f"{world.plane.assets}:{PROGRAMS}:{os.environ['PATH']}",
    }
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=60, check=False)


def test_a_pool_is_explained_from_the_cluster_and_by_kubectl(world: World) -> None:
    world.backlog(2500)
    world.operator()
    policy = {"target": {"backlogPerReplica": 100}, "maxReplicas": 5}
    world.apply(pool(autoscaling=policy))
    world.scaled(5)
    eventually(lambda: world.status().get("recentDecisions"))
    told = run(world, "postfleet-operator", "explain", "email", "-n", world.namespace)
    assert told.returncode == 0, told.stderr
    assert "5 workers wanted, 0 ready (mode Auto)" in told.stdout
    assert "raise autoscaling.maxReplicas from 5 to 25" in told.stdout
    world.apply(node("acme-1", paused=True, workers={"poolRef": {"name": "email"}}))
    eventually(lambda: world.status("acme-1", "sendingnode").get("phase") == "Paused")
    plugin = run(world, "kubectl", "jobpool", "explain", "email", "-n", world.namespace)
    assert plugin.stdout.splitlines()[0] == told.stdout.splitlines()[0], plugin.stderr
    assert "acme-1 is Paused" in plugin.stdout
    listed = run(world, "kubectl", "jobpool", "list", "-n", world.namespace, "-o", "json")
    [row] = json.loads(listed.stdout)
    assert (row["name"], row["desired"], row["bottleneck"]) == ("email", 5, "MaxReplicas")
    history = run(world, "kubectl", "jobpool", "history", "email", "-n", world.namespace)
    assert "0 -> 5" in history.stdout
    missing = run(world, "kubectl", "jobpool", "explain", "nobody", "-n", world.namespace)
    assert (missing.returncode, missing.stderr.count("\n")) == (2, 1)
    assert f"there is no JobPool nobody in namespace {world.namespace}" in missing.stderr
