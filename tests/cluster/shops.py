"""A pool that works: an operator, a relay, and workers that are pods, on the probe jobs and on real mail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cluster_worlds import World
from nodeagent import Agent
from operators import eventually, pool

from fleet import Fleet
from postfleet_workers.enqueue import enqueue_many
from postfleet_workers.jobs import NewJob

CONNECTIONS = ("POSTFLEET_DATABASE_URL", "POSTFLEET_REDIS_URL")
QUICK = {
    "pollingIntervalSeconds": 1,
    "cooldownSeconds": 2,
    "target": {"backlogPerReplica": 20},
    "scaleDown": {"stabilizationWindowSeconds": 2},
}


@dataclass(slots=True)
class Shop:
    """What a test of workers on Kubernetes has."""

    world: World
    agent: Agent
    fleet: Fleet

    def open(self) -> None:
        """Start the relay and the operator, and make the Secret that workers connect by."""
        connections = {name: self.fleet.env[name] for name in CONNECTIONS}
        metadata = {"name": "postfleet-connections"}
        self.world.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": connections})
        self.fleet.relay()
        self.world.operator()

    def pool(self, *queues: str, threads: int = 4, **spec: Any) -> dict[str, Any]:
        """A pool whose workers have the tests' settings."""
        env = [{"name": key, "value": value} for key, value in self.fleet.env.items() if key not in CONNECTIONS]
        worker = {"threads": threads, "shutdownTimeoutSeconds": 10, "env": env, **spec.pop("worker", {})}
        return pool(queues=list(queues or ("probe",)), worker=worker, **spec)

    def jobs(self, count: int, seconds: float) -> None:
        """Enqueue probe jobs that take so long."""
        args = {"do": "sleep", "seconds": seconds}
        with self.fleet.engine.begin() as connection:
            enqueue_many(connection, [NewJob("probe.single", "probe", args) for _ in range(count)])

    def left(self) -> int:
        """Jobs that are not done."""
        return int(self.fleet.rows("SELECT count(*) FROM jobs WHERE state <> 'completed'")[0][0])

    def runs(self) -> set[int]:
        """How often jobs were run, each number once."""
        found: dict[str, str] = self.world.redis.hgetall("probe:runs")  # type: ignore[assignment]
        return {int(times) for times in found.values()}

    def ready(self, count: int, name: str = "email") -> None:
        """Wait until so many workers are ready, and there are no others."""

        def workers() -> tuple[int, int]:
            found = self.world.items("pod", labelSelector=f"postfleet.io/pool={name}")
            conditions = [each for pod in found for each in pod["status"].get("conditions", ())]
            return len(found), sum(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

        eventually(workers, lambda found: found == (count, count), seconds=60)

    def ended_otherwise(self, *codes: int) -> str:
        """The last words of pods that ended with another code."""
        odd = [pod for pod, exits in self.agent.exits.items() if {each.code for each in exits} - set(codes)]
        return "\n\n".join(f"{pod}: {self.agent.exits[pod]}\n{self.agent.log(pod)[-3000:]}" for pod in odd)

    def exit_codes(self) -> set[int]:
        """How the containers ended, of pods that are gone too."""
        return {each.code for exits in self.agent.exits.values() for each in exits}
