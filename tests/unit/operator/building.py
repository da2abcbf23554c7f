"""Short ways to build the operator's values in tests."""

from __future__ import annotations

from typing import Any

from postfleet_operator.scaling.values import Sample, Signal, Source
from postfleet_operator.spec import API_VERSION, JobPool, PoolSpec, parse_pool


def manifest(name: str = "email", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "JobPool",
        "metadata": {"name": name},
        "spec": {"queues": ["priority-high", "retry"], **spec},
    }


def pool(name: str = "email", **spec: Any) -> JobPool:
    return parse_pool(manifest(name, **spec))


def spec(*, autoscaling: dict[str, Any] | None = None, **fields: Any) -> PoolSpec:
    return pool(autoscaling=autoscaling or {}, **fields).spec


def healthy(backlog: int = 0, **fields: Any) -> Signal:
    return Signal(Source.REDIS, ready=backlog, **fields)


def counted(backlog: int = 0) -> Signal:
    return Signal(Source.POSTGRESQL, "the relay is silent", held=backlog)


def lost() -> Signal:
    return Signal(Source.NONE, "Redis cannot be read")


def sample(signal: Signal, replicas: int = 0, ready: int | None = None) -> Sample:
    ready = replicas if ready is None else ready
    return Sample(signal, replicas, ready, max(replicas - ready, 0))
