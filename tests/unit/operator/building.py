"""Short ways to build the operator's values in tests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.scaling.state import Recommendation, State
from postfleet_operator.scaling.throughput import handed_down
from postfleet_operator.scaling.values import QueueLoad, Sample, Signal, Source
from postfleet_operator.spec import API_VERSION, JobPool, PoolSpec, parse_pool
from postfleet_operator.workerset import WorkerSet


def manifest(name: str = "email", *, autoscaling: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """A pool with a backlog target of 500 and a short window, unless a test says otherwise."""
    policy = {"target": {"backlogPerReplica": 500}, "scaleDown": {"stabilizationWindowSeconds": 10}}
    return {
        "apiVersion": API_VERSION,
        "kind": "JobPool",
        "metadata": {"name": name},
        "spec": {"queues": ["priority-high", "retry"], "autoscaling": policy | (autoscaling or {}), **spec},
    }


def pool(name: str = "email", **spec: Any) -> JobPool:
    return parse_pool(manifest(name, **spec))


def node_manifest(name: str = "acme-1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "SendingNode",
        "metadata": {"name": name},
        "spec": {"smtp": {"host": "smtp.example.com"}, "identity": {"domain": "example.com"}, **spec},
    }


def problems(parse: Callable[[dict[str, Any]], object], given: dict[str, Any]) -> list[str]:
    """What a parser finds wrong."""
    with pytest.raises(InvalidManifest) as caught:
        parse(given)
    return list(caught.value.problems)


def workers(name: str = "email", **spec: Any) -> WorkerSet:
    return WorkerSet(pool(name, **spec))


def spec(*, autoscaling: dict[str, Any] | None = None, **fields: Any) -> PoolSpec:
    return pool(autoscaling=autoscaling, **fields).spec


def latency_spec(seconds: int = 5, *, autoscaling: dict[str, Any] | None = None, **fields: Any) -> PoolSpec:
    """A pool of one-threaded workers with a latency target."""
    policy = {"target": {"latencySeconds": seconds}, **(autoscaling or {})}
    return spec(autoscaling=policy, **{"worker": {"threads": 1}, **fields})


def measured(jobs_per_second: float = 10.0, **fields: Any) -> State:
    """A state that knows what a worker of one thread does."""
    return State(throughput=handed_down(jobs_per_second, 1), **fields)


def looks(entries: tuple[tuple[float, int], ...]) -> tuple[Recommendation, ...]:
    """Looks that asked for so many workers, all of them for what arrives."""
    return tuple(Recommendation(at, needed, needed) for at, needed in entries)


def load(waiting: int = 0, arrivals: float = 0.0, oldest: float = 0.0, **fields: Any) -> Signal:
    """A healthy signal as a latency target sees it."""
    queue = QueueLoad("priority-high", waiting, arrivals, oldest)
    return Signal(Source.REDIS, ready=waiting, oldest_seconds=oldest, queues=(queue,), **fields)


def healthy(backlog: int = 0, **fields: Any) -> Signal:
    return Signal(Source.REDIS, ready=backlog, **fields)


def counted(backlog: int = 0) -> Signal:
    return Signal(Source.POSTGRESQL, "the relay is silent", held=backlog)


def lost() -> Signal:
    return Signal(Source.NONE, "Redis cannot be read")


def sample(signal: Signal, replicas: int = 0, ready: int | None = None) -> Sample:
    ready = replicas if ready is None else ready
    return Sample(signal, replicas, ready, max(replicas - ready, 0))
