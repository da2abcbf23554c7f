"""The state that decisions go on from when an operator starts: what a status remembers of the workers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from postfleet_operator.scaling.decide import first_state
from postfleet_operator.scaling.state import State
from postfleet_operator.workerset import WorkerSet


def recalled(workers: WorkerSet, replicas: int, now: float) -> State:
    """What is known of throughput and start-ups survives zero workers and a restart of the operator."""
    status: Mapping[str, Any] = workers.pool.status
    if workers.node is not None:
        own = workers.node.status.get("workers")
        decision = (own if isinstance(own, Mapping) else {}).get("lastDecision")
        inputs = decision.get("inputs") if isinstance(decision, Mapping) else None
        status = inputs if isinstance(inputs, Mapping) else status
    return first_state(
        replicas,
        now,
        _number(status.get("throughputPerReplica")),
        _number(status.get("startupSeconds")),
        workers.spec.worker.capacity,
    )


def _number(value: object) -> float | None:
    try:
        return float(str(value)) if value is not None else None
    except ValueError:
        return None
