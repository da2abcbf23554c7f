"""The policies that are compared, all with the same replicas, start-ups and service times. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from postfleet_operator.simulation.fleet import Shape
from postfleet_operator.simulation.keda import Keda, ScaledObject
from postfleet_operator.simulation.kpa import Kpa
from postfleet_operator.simulation.policy import Policy
from postfleet_operator.simulation.postfleet import Postfleet, slo_seconds
from postfleet_operator.simulation.replay import Scene
from postfleet_operator.simulation.trace import Trace
from postfleet_operator.spec import PoolSpec

NAMES = ("postfleet", "keda_default", "keda_tuned", "kpa")

Make = Callable[[], Policy]


def scene(spec: PoolSpec, trace: Trace, shape: Shape, slo_otherwise: float = 5.0) -> Scene:
    """What the pool's policy and its rivals have in common; `slo_otherwise` where the pool has no latency target."""
    policy = spec.autoscaling
    return Scene(trace, shape, slo_seconds(spec, slo_otherwise), policy.min_replicas, policy.max_replicas)


def makers(spec: PoolSpec, scene: Scene, began_at: float = 0.0) -> Mapping[str, Make]:
    """How to make each policy; a policy remembers, so each replay needs a new one."""
    policy = spec.autoscaling
    worker = spec.worker.model_copy(update={"processes": 1, "threads": scene.shape.threads})
    fitting = spec.model_copy(update={"worker": worker})
    default = ScaledObject(scene.least, scene.most)
    tuned = ScaledObject(
        scene.least,
        scene.most,
        list_length=list_length(scene),
        polling_interval_seconds=policy.polling_interval_seconds,
        cooldown_seconds=policy.cooldown_seconds,
    )
    return {
        "postfleet": lambda: Postfleet(fitting, began_at),
        "keda_default": lambda: Keda(default),
        "keda_tuned": lambda: Keda(tuned),
        "kpa": lambda: Kpa(scene.shape.threads, scene.least, scene.most),
    }


def list_length(scene: Scene) -> int:
    """What tuned KEDA is told: the jobs that a replica clears within the SLO, μ x SLO, from the real μ."""
    return max(math.floor(scene.shape.throughput * scene.slo_seconds + 1e-9), 1)
