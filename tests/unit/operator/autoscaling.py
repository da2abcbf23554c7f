"""An autoscaler over the in-memory cluster, whose signals and clock a test moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from postfleet_operator.autoscaler import Autoscaler
from postfleet_operator.deployment import RenderSettings
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.scaling.shadow import Shadow
from postfleet_operator.scaling.values import Decision, Sample, Signal, Work
from postfleet_operator.spec import JobPool
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import healthy

EMAIL = "default/email"


class Signals:
    """Says what a test told it to say; remembers who was asked for when."""

    def __init__(self) -> None:
        self.told: dict[str, Signal] = {}
        self.asked: list[tuple[float, list[str]]] = []
        self.fetched: dict[str, int] = {}

    def sample(self, sets: Sequence[WorkerSet], now: float) -> Mapping[str, Signal]:
        self.asked.append((now, [workers.name for workers in sets]))
        return {workers.key: self.told.get(workers.key, healthy(0)) for workers in sets}

    def in_flight(self, workers: WorkerSet) -> Mapping[str, int]:
        return self.fetched

    def look(self, now: float) -> Mapping[str, Work]:
        return {}


class Fleet:
    def __init__(self, *manifests: dict[str, Any]) -> None:
        self.cluster = MemoryCluster(instant=True)
        self.signals = Signals()
        self.decisions: list[tuple[str, Decision]] = []
        self.forgotten: list[str] = []
        self.now = 1000.0
        self.loop = Autoscaler(
            self.cluster,
            self.signals,
            self.signals,
            lambda: self.now,
            RenderSettings("registry/worker:1"),
            self._observe,
            self.forgotten.append,
        )
        for given in manifests:
            self.cluster.put(given)

    def _observe(self, workers: WorkerSet, sample: Sample, decision: Decision, shadow: Shadow | None) -> None:
        self.decisions.append((workers.key, decision))

    def pools(self) -> list[JobPool]:
        return [pool for pool in self.cluster.pools() if isinstance(pool, JobPool)]

    def pool(self) -> JobPool:
        return self.pools()[0]

    def tick(self, seconds: float = 2.0) -> float:
        self.now += seconds
        return self.loop.tick(self.now)

    def calls(self, name: str) -> int:
        return sum(call == name for call, _ in self.cluster.calls)

    def reasons(self) -> list[str]:
        return [event.reason.value for event in self.cluster.events]

    def condition(self, kind: str, key: str = EMAIL) -> tuple[str, str]:
        [found] = [c for c in self.cluster.status(key)["conditions"] if c["type"] == kind]
        return found["status"], found["reason"]
