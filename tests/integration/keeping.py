"""A keeper over the in-memory cluster and a real PostgreSQL, whose clock a test moves."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg

from postfleet_operator.conditions import Facts
from postfleet_operator.deployment import RenderSettings, render
from postfleet_operator.keeper import Keeper
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.probing import Prober
from postfleet_operator.spec import JobPool
from postfleet_operator.stores import database
from postfleet_operator.workerset import WorkerSet, worker_sets
from unit.operator.building import manifest, node_manifest

DEDICATED = {"poolRef": {"name": "email"}, "placement": "Dedicated"}
SHARED, OWN = "default/email", "default/email@acme-1"


def node(name: str = "acme-1", *, namespace: str = "default", born: int = 1, secret: str = "", **spec: Any) -> Any:
    smtp = {"host": f"{name}.invalid"} | ({"credentialsSecretRef": {"name": secret}} if secret else {})
    given = node_manifest(name, **{"smtp": smtp, "identity": {"domain": f"{name}.example"}, **spec})
    created = f"2026-01-01T00:00:{born:02}Z"
    return {**given, "metadata": {"name": name, "namespace": namespace, "creationTimestamp": created}}


class Nobody(Prober):
    """Probes nothing: these nodes' servers are not there."""

    def ask(self, endpoint: object, now: float) -> None:
        pass


class Keeping:
    """A keeper, its cluster and its database; time moves only with `tick`."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.cluster = MemoryCluster(instant=True)
        self.away = False
        self.now = 1000.0
        self.known: dict[str, Facts] = {}
        self.unserved: list[Mapping[str, int]] = []
        self.phases: dict[str, str] = {}
        self.forgotten: list[str] = []
        self.keeper = self.another()

    def another(self, owner: str = "here") -> Keeper:
        return Keeper(
            self.cluster,
            self._connect,
            owner,
            lambda: self.now,
            self.known.get,
            prober=Nobody(lambda: self.now),
            on_unserved=self.unserved.append,
            on_phase=lambda namespace, name, phase: self.phases.update({f"{namespace}/{name}": phase}),
            forget=lambda namespace, name: self.forgotten.append(f"{namespace}/{name}"),
        )

    def _connect(self) -> psycopg.Connection[Any]:
        if self.away:
            raise psycopg.OperationalError("connection refused")
        return database(self.url)()

    def put(self, *manifests: Any) -> None:
        for given in manifests:
            self.cluster.put(given)

    def tick(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.keeper.tick(self.now)

    def rows(self) -> dict[str, tuple[Any, ...]]:
        with psycopg.connect(self.url) as connection:
            found = connection.execute("SELECT name, paused, spec FROM sending_nodes").fetchall()
        return {name: tuple(rest) for name, *rest in found}

    def sql(self, statement: str) -> None:
        with psycopg.connect(self.url) as connection:
            connection.execute(statement)  # type: ignore[call-overload]

    def files(self, key: str = SHARED) -> dict[str, str]:
        return dict(self.cluster.applied_secrets.get(key, {}).get("stringData", {}))

    def condition(self, kind: str, key: str = "default/acme-1") -> tuple[str, str]:
        found = {each["type"]: each for each in self.cluster.status(key, "SendingNode")["conditions"]}
        return found[kind]["status"], found[kind]["reason"]

    def phase(self, key: str = "default/acme-1") -> str:
        return str(self.cluster.status(key, "SendingNode").get("phase"))

    def events(self) -> list[str]:
        return [event.reason.value for event in self.cluster.events]

    def sets(self) -> dict[str, WorkerSet]:
        pools = [pool for pool in self.cluster.pools() if isinstance(pool, JobPool)]
        return {workers.key: workers for workers in worker_sets(pools, self.cluster.nodes())}  # type: ignore[arg-type]

    def deploy(self) -> None:
        """What the autoscaler does meanwhile."""
        for workers in self.sets().values():
            self.cluster.apply(workers, render(workers, RenderSettings("image")))


def end(keeper: Keeper) -> None:
    stop = threading.Event()
    stop.set()
    keeper.run(stop)


@contextmanager
def keep(url: str) -> Iterator[Keeping]:
    """With a pool, `email`, and a Secret with a login, `smtp`."""
    keeping = Keeping(url)
    keeping.put(manifest())
    keeping.cluster.secrets["default", "smtp"] = {"username": "u", "password": "p"}
    yield keeping
    end(keeping.keeper)
