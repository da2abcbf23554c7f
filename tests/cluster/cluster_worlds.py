"""A test's world: a namespace, queues in Redis whose numbers the test sets, PostgreSQL, replicas of the operator."""

from __future__ import annotations

import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import redis
import urllib3
from kubeapi import Api, ApiError
from operators import Operator, eventually
from servers import ControlPlane

OURS, CORE, APPS = "/apis/postfleet.io/v1alpha1", "/api/v1", "/apis/apps/v1"
PLACES = {
    "deployment": f"{APPS}/namespaces/{{}}/deployments",
    "event": f"{CORE}/namespaces/{{}}/events",
    "jobpool": f"{OURS}/namespaces/{{}}/jobpools",
    "pod": f"{CORE}/namespaces/{{}}/pods",
    "secret": f"{CORE}/namespaces/{{}}/secrets",
    "sendingnode": f"{OURS}/namespaces/{{}}/sendingnodes",
}


@dataclass(slots=True)
class World:
    """What a test of the operator has."""

    plane: ControlPlane
    namespace: str
    redis: redis.Redis
    redis_url: str
    database_url: str
    directory: Path
    exits: ExitStack
    operators: list[Operator] = field(default_factory=list)
    api: Api = field(init=False)

    def __post_init__(self) -> None:
        self.api = Api(self.plane)
        self.exits.callback(self.api.close)

    def operator(self, *, kubeconfig: Path | None = None, **settings: str) -> Operator:
        """Start a replica and wait until it is ready."""
        env = {
            "POSTFLEET_DATABASE_URL": self.database_url,
            "POSTFLEET_REDIS_URL": self.redis_url,
            "POSTFLEET_LEASE_NAMESPACE": self.namespace,
            **{f"POSTFLEET_{key.upper()}": value for key, value in settings.items()},
        }
        started = Operator(
            self.plane,
            self.directory,
            env,
            self.namespace,
            kubeconfig or self.plane.kubeconfig,
            name=f"operator-{len(self.operators)}",
        )
        started.start()
        self.exits.callback(started.program.stop)
        self.operators.append(started)
        started.ready()
        return started

    def kubectl(self, *arguments: str, given: Any = None, check: bool = True) -> str:
        """kubectl in the test's namespace."""
        return self.plane.kubectl(*arguments, namespace=self.namespace, given=given, check=check)

    def apply(self, *manifests: dict[str, Any]) -> str:
        """What a platform engineer does."""
        return self.kubectl("apply", "--server-side", "-f", "-", given=list(manifests))

    def get(self, kind: str, name: str) -> dict[str, Any] | None:
        """An object, or None. Not by kubectl: tests ask all the time."""
        try:
            return self._read(f"{PLACES[kind].format(self.namespace)}/{name}")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def items(self, kind: str, **selector: str) -> list[dict[str, Any]]:
        """Every object of a kind; `labelSelector` and `fieldSelector` choose among them."""
        path = f"{PLACES[kind].format(self.namespace)}?{urlencode(selector)}"
        found: list[dict[str, Any]] = self._read(path)["items"]
        return found

    def _read(self, path: str) -> dict[str, Any]:
        try:
            found = self.api.call("GET", path)
        except urllib3.exceptions.HTTPError:  # the connection was one to a server that was killed since
            found = self.api.call("GET", path)
        return dict(found)

    def replicas(self, name: str = "email") -> int | None:
        """What a Deployment asks for; None without one."""
        found = self.get("deployment", name)
        return None if found is None else found["spec"]["replicas"]

    def scaled(self, replicas: int, name: str = "email", seconds: float = 20.0) -> None:
        """Wait until a Deployment asks for so many."""
        eventually(lambda: self.replicas(name), lambda found: found == replicas, seconds)

    def status(self, name: str = "email", kind: str = "jobpool") -> dict[str, Any]:
        """A resource's status."""
        found = self.get(kind, name)
        assert found is not None
        status: dict[str, Any] = found.get("status") or {}
        return status

    def condition(self, kind: str, name: str = "email", of: str = "jobpool") -> tuple[str, str]:
        """Status and reason of a condition; empty while there is none."""
        conditions = self.status(name, of).get("conditions") or []
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == kind), ("", ""))

    def reasons(self, name: str) -> set[str]:
        """Reasons of the Events about an object."""
        return {event["reason"] for event in self.items("event", fieldSelector=f"involvedObject.name={name}")}

    def record(self, queue: str, **fields: Any) -> None:
        """Write the relay's record of a queue, fresh for an hour."""
        fresh = {
            "at": float(self.redis.time()[0]) + 3600.0,
            "poll_seconds": 0.5,
            "held": 0,
            "throttled": 0,
            "throttled_by": {},
            "scheduled": 0,
            "next_run_at": None,
            "oldest_seconds": 0.0,
            "running": 0,
            "running_bundles": 0,
            "mean_bundle_size": 1.0,
            "arrivals_per_second": 0.0,
            "permitted": {},
        }
        self.redis.set(f"postfleet:relay:{queue}", json.dumps(fresh | fields))

    def backlog(self, held: int, queues: tuple[str, ...] = ("priority-high", "retry")) -> None:
        """So many due jobs in the first queue, none in the others."""
        for number, queue in enumerate(queues):
            self.record(queue, held=held if number == 0 else 0)
