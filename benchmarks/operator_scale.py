"""The operator with hundreds of pools and nodes on a real API server: `make bench-operator`. Prints JSON.

    pools change ──> Redis ──> operator ──> Deployments ──> pods, which are pretended

Backlogs of some pools change at random times; how long until `spec.replicas` follows is the reaction. All of it runs on
this machine, API server and all, so the numbers are upper bounds. It needs what `make test-cluster` needs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import socketserver
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import redis
from prometheus_client.parser import text_string_to_metric_families

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPOSITORY / "tests" / "cluster"), str(REPOSITORY / "tests")]

from assets import folder  # noqa: E402
from cluster_worlds import World  # noqa: E402
from kubeapi import Api, Manifest, Watch  # noqa: E402
from nodeagent import Agent  # noqa: E402
from operators import Operator, eventually, node, pool  # noqa: E402
from podstatus import Machine  # noqa: E402
from servers import ControlPlane  # noqa: E402

from postfleet_local.stack import Postgres, Valkey  # noqa: E402
from postfleet_workers.store.migrate import upgrade  # noqa: E402
from postfleet_workers.store.session import engine_for  # noqa: E402

NAMESPACE = "bench"
POLLING_SECONDS = 2.0
PER_REPLICA = 100
BURST_REPLICAS = 20
PATIENCE_SECONDS = 300.0
CRD = f"/apis/postfleet.io/v1alpha1/namespaces/{NAMESPACE}"


@dataclass(slots=True)
class Wanted:
    """A backlog that changed, and what the Deployment has to become."""

    replicas: int
    at: float


@dataclass(slots=True)
class Observer:
    """Follows Deployments, and times those that something is wanted of."""

    replicas: dict[str, int] = field(default_factory=dict)
    wanted: dict[str, Wanted] = field(default_factory=dict)
    reactions: list[float] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def told(self, kind: str, manifest: Manifest) -> None:
        """An event of the watch."""
        name, replicas = manifest["metadata"]["name"], manifest["spec"]["replicas"]
        with self.lock:
            self.replicas[name] = replicas
            wanted = self.wanted.get(name)
            if kind != "DELETED" and wanted is not None and wanted.replicas == replicas:
                self.reactions.append(time.monotonic() - self.wanted.pop(name).at)

    def take(self) -> list[float]:
        """The reactions since the last call, sorted."""
        with self.lock:
            found, self.reactions = sorted(self.reactions), []
        return found


class Bench:
    """Pools and nodes on one control plane."""

    def __init__(self, world: World, api: Api, pools: int, nodes: int) -> None:
        self.world, self.api = world, api
        self.pools = [f"pool-{number:03}" for number in range(pools)]
        self.nodes = [f"node-{number:03}" for number in range(nodes)]
        self.observer = Observer()
        self.watch = Watch(api, f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments", self.observer.told)
        self.chance = random.Random("operator")  # noqa: S311 - the same changes every time

    def create(self, smtp_port: int) -> None:
        """All resources, with a backlog for one replica each; nodes share the pools out among them."""
        autoscaling = {
            "target": {"backlogPerReplica": PER_REPLICA},
            "pollingIntervalSeconds": int(POLLING_SECONDS),
            "cooldownSeconds": 0,
            "scaleDown": {"stabilizationWindowSeconds": 0},
        }
        for name in [*self.pools, "burst"]:
            self.world.record(name, held=PER_REPLICA if name != "burst" else 0)
        manifests = [
            *(("jobpools", pool(name, queues=[name], autoscaling=autoscaling)) for name in [*self.pools, "burst"]),
            *(("sendingnodes", self._node(number, smtp_port)) for number in range(len(self.nodes))),
        ]
        login = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "login"}}
        self.api.call(
            "POST",
            f"/api/v1/namespaces/{NAMESPACE}/secrets",
            {**login, "stringData": {"username": "u", "password": "p"}},
        )
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda each: self.api.call("POST", f"{CRD}/{each[0]}", each[1]), manifests))

    def _node(self, number: int, smtp_port: int) -> dict[str, Any]:
        host = f"127.1.{number // 250}.{number % 250 + 1}"
        smtp = {"host": host, "port": smtp_port, "tls": "None", "credentialsSecretRef": {"name": "login"}}
        own = {"poolRef": {"name": self.pools[number % len(self.pools)]}}
        return node(self.nodes[number], smtp=smtp, identity={"domain": f"n{number}.example"}, workers=own)

    def change(self, name: str) -> None:
        """Another backlog, for two replicas or for one."""
        replicas = 3 - self.observer.replicas.get(name, 1)
        self._want(name, replicas)

    def _want(self, name: str, replicas: int) -> None:
        with self.observer.lock:
            self.observer.wanted[name] = Wanted(replicas, time.monotonic())
        self.world.record(name, held=replicas * PER_REPLICA)

    def settled(self, seconds: float = 20.0) -> None:
        """Wait until every change was followed."""
        eventually(lambda: len(self.observer.wanted), lambda left: left == 0, seconds)

    def given_up(self) -> int:
        """Wait as well, but not for ever: how many changes were not followed."""
        try:
            self.settled(30.0)
        except AssertionError:
            with self.observer.lock:
                late = len(self.observer.wanted)
                self.observer.wanted.clear()
            return late
        return 0

    def load(self, operator: Operator, fraction: float, seconds: float) -> dict[str, Any]:
        """Change so many of the pools within each polling interval; what that took."""
        count = max(round(len(self.pools) * fraction), 1)
        with Usage(operator) as usage:
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                for name in self.chance.sample(self.pools, count):
                    time.sleep(POLLING_SECONDS / count * self.chance.random() * 2)
                    if name not in self.observer.wanted:
                        self.change(name)
        late = self.given_up()
        found = self.observer.take()
        beyond = [max(each - POLLING_SECONDS, 0.0) for each in found]
        return {
            "pools_changing_per_tick": count,
            "changes": len(found),
            "changes_not_followed": late,
            "reaction_p50_seconds": quantile(found, 0.5),
            "reaction_p95_seconds": quantile(found, 0.95),
            "reaction_max_seconds": quantile(found, 1.0),
            "beyond_polling_p95_seconds": quantile(beyond, 0.95),
            **usage.result,
        }

    def bursts(self, times: int) -> list[float]:
        """Seconds from a backlog to `spec.replicas` = 20, of a pool at zero."""
        for _ in range(times):
            time.sleep(POLLING_SECONDS * self.chance.random())
            self._want("burst", BURST_REPLICAS)
            self.settled()
            self._rest("burst")
        return [round(each, 2) for each in self.observer.take()]

    def _rest(self, name: str) -> None:
        self.world.record(name)
        eventually(lambda: self.observer.replicas[name], lambda found: found == 0)

    def failover(self, leader: Operator, other: Operator) -> float:
        """Seconds from kill -9 of the leader to the other's first write."""
        if not leader.leads() or other.leads():
            raise RuntimeError("the lead moved during the measurement")
        leader.program.kill()
        killed = time.monotonic()
        self.change(self.pools[0])
        self.settled(60.0)
        self.observer.take()
        return round(time.monotonic() - killed, 1)


class Usage:
    """What the operator used meanwhile."""

    def __init__(self, operator: Operator) -> None:
        self._operator = operator
        self._process = psutil.Process(pid(operator))
        plane = operator.plane
        self._others = {
            program.name: psutil.Process(program.process.pid)
            for program in (plane.apiserver, plane.controllers, plane.etcd)
            if program.process is not None
        } | {"bench": psutil.Process()}
        self.result: dict[str, Any] = {}

    def __enter__(self) -> Usage:
        self._began, self._before, self._cpu = time.monotonic(), metrics(self._operator), spent(self._process)
        self._spent = {name: spent(process) for name, process in self._others.items()}
        return self

    def __exit__(self, *_: object) -> None:
        seconds, used = time.monotonic() - self._began, spent(self._process) - self._cpu
        others = {name: spent(process) - self._spent[name] for name, process in self._others.items()}
        after = metrics(self._operator)
        grown = {key: value - self._before.get(key, 0.0) for key, value in after.items()}
        calls: Counter[str] = Counter()
        for (name, labels), value in grown.items():
            if name == "postfleet_operator_api_calls_total" and value:
                calls[f"{labels['verb']} {labels['resource']}"] += value
        self.result = {
            "cpu_cores": round(used / seconds, 3),
            "cpu_cores_of_others": {name: round(value / seconds, 2) for name, value in others.items()},
            "memory_peak_mib": peak_mib(self._operator),
            "api_calls_per_second": {key: round(value / seconds, 2) for key, value in sorted(calls.items())},
            "tick_mean_seconds": {
                loop: round(
                    grown[("postfleet_operator_tick_seconds_sum", Labels(loop=loop))]
                    / max(grown[("postfleet_operator_tick_seconds_count", Labels(loop=loop))], 1),
                    4,
                )
                for loop in ("autoscaler", "keeper")
            },
        }


class Labels(dict[str, str]):
    """Labels as a key."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(tuple(sorted(self.items())))


def metrics(operator: Operator) -> Mapping[tuple[str, Labels], float]:
    """The operator's own."""
    _, page = operator.asks("/metrics")
    samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]
    return {(sample.name, Labels(sample.labels)): sample.value for sample in samples}


def spent(process: psutil.Process) -> float:
    """Processor seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def pid(operator: Operator) -> int:
    """Of its process."""
    process = operator.program.process
    if process is None:
        raise RuntimeError("the operator was not started")
    return process.pid


def peak_mib(operator: Operator) -> int:
    """The most memory that its process ever had."""
    line = next(
        line for line in Path(f"/proc/{pid(operator)}/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return round(int(line.split()[1]) / 1024)


def quantile(ordered: list[float], fraction: float) -> float | None:
    """By nearest rank."""
    return round(ordered[max(math.ceil(fraction * len(ordered)) - 1, 0)], 2) if ordered else None


class Greeting(socketserver.BaseRequestHandler):
    """An SMTP server as far as the operator talks to one."""

    def handle(self) -> None:
        """Greet."""
        self.request.sendall(b"220 bench.example ESMTP\r\n")
        self.request.recv(100)


@contextmanager
def stage(directory: Path, pools: int, nodes: int) -> Iterator[Bench]:
    """Servers, pretended pods, and the bench on them."""
    with ExitStack() as exits:
        plane = ControlPlane(folder(), directory / "plane")
        exits.callback(plane.stop)
        plane.start()
        plane.kubectl("apply", "--server-side", "-f", str(REPOSITORY / "crds"))
        plane.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
        plane.kubectl("create", "namespace", NAMESPACE)
        postgres, valkey = Postgres(directory / "pg", durable=False), Valkey(directory / "valkey")
        for server in (postgres, valkey):
            server.start()
            exits.callback(server.stop)
        engine = engine_for(postgres.url())
        upgrade(engine)
        engine.dispose()
        client = redis.Redis.from_url(valkey.url(), decode_responses=True)
        greeter = socketserver.ThreadingTCPServer(("0.0.0.0", 0), Greeting)  # noqa: S104 - all of 127/8
        greeter.daemon_threads = True
        threading.Thread(target=greeter.serve_forever, daemon=True).start()
        exits.callback(greeter.shutdown)
        machine = Machine("bench-node", capacity=100_000)
        agent = Agent(plane, NAMESPACE, directory / "pods", machines=(machine,), pretend_ready_seconds=0.5)
        agent.start()
        exits.callback(agent.close)
        api = Api(plane)
        world = World(plane, NAMESPACE, client, valkey.url(), postgres.url(), directory, exits)
        bench = Bench(world, api, pools, nodes)
        bench.create(greeter.server_address[1])
        bench.watch.start()
        exits.callback(bench.watch.close)
        yield bench


def timed(do: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.monotonic()
    do()
    return round(time.monotonic() - began, 1)


def measure(bench: Bench, seconds: float, shares: list[float]) -> dict[str, Any]:
    """All there is to measure, in turn."""
    say("operator starts")
    leader = bench.world.operator()
    everywhere = dict.fromkeys(bench.pools, 1) | {"burst": 0}

    def pools_scaled() -> None:
        eventually(lambda: dict(bench.observer.replicas), everywhere.__eq__, PATIENCE_SECONDS)

    def nodes_active() -> None:
        path = "-o=jsonpath={range .items[*]}{.status.phase} {end}"
        active = ["Active"] * len(bench.nodes)
        eventually(lambda: bench.world.kubectl("get", "sendingnodes", path).split(), active.__eq__, PATIENCE_SECONDS)

    result: dict[str, Any] = {
        "cores": os.cpu_count(),
        "load_average": os.getloadavg()[0],
        "first_scaling_of_all_pools_seconds": timed(pools_scaled),
        "all_nodes_active_seconds_more": timed(nodes_active),
    }
    say("at rest")
    with Usage(leader) as usage:
        time.sleep(seconds)
    result["at_rest"] = usage.result
    for share in shares:
        say(f"{share:.0%} of the pools change per tick")
        result[f"changing_{share:.0%}"] = bench.load(leader, share, seconds)
    say("bursts")
    result["burst_to_20_replicas_seconds"] = bench.bursts(5)
    say("failover")
    other = bench.world.operator()
    result["failover_seconds"] = bench.failover(leader, other)
    result["memory_peak_mib_of_the_second"] = peak_mib(other)
    return result


def say(words: str) -> None:
    """Where it stands."""
    sys.stderr.write(f"{words}\n")


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pools", type=int, default=500)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each load")
    parser.add_argument("--changing", type=float, nargs="*", default=[0.01, 0.05], help="share of pools per tick")
    given = parser.parse_args()

    with tempfile.TemporaryDirectory(prefix="postfleet-bench-") as directory, ExitStack() as exits:
        bench = exits.enter_context(stage(Path(directory), given.pools, given.nodes))
        result = measure(bench, given.seconds, given.changing)
    sys.stdout.write(json.dumps({"pools": given.pools, "nodes": given.nodes, **result}, indent=2) + "\n")


if __name__ == "__main__":
    main()
