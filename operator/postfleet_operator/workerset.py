"""The workers of one Deployment: a pool's shared ones, or those that a Dedicated node has to itself. Pure.

A Dedicated node's mail must leave from its own place, so it has a Deployment of its own, made from its pool's template,
on queues of its own (`<queue>.<node>`), scaled under the pool's policy.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from postfleet_operator.spec import JobPool, PoolSpec, SendingNode

SHARED = "shared"


@dataclass(frozen=True, slots=True)
class WorkerSet:
    """What one Deployment runs; `node` is None for the pool's shared workers."""

    pool: JobPool
    node: SendingNode | None = None

    @property
    def key(self) -> str:
        """`namespace/pool`, or `namespace/pool@node`."""
        return self.pool.key if self.node is None else f"{self.pool.key}@{self.node.name}"

    @property
    def name(self) -> str:
        """The Deployment's name: the pool's, or `<pool>-<node>`."""
        return self.pool.name if self.node is None else f"{self.pool.name}-{self.node.name}"

    @property
    def namespace(self) -> str:
        """Where it runs."""
        return self.pool.metadata.namespace

    @property
    def node_label(self) -> str:
        """Value of the label postfleet.io/node, and of POSTFLEET_NODE."""
        return SHARED if self.node is None else self.node.name

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues in Redis that the workers serve, most urgent first."""
        return (
            self.pool.spec.queues
            if self.node is None
            else tuple(f"{q}.{self.node.name}" for q in self.pool.spec.queues)
        )

    @property
    def spec(self) -> PoolSpec:
        """The pool's spec. Its `queues` are the pool's own names; `queues` above are what Redis calls them."""
        return self.pool.spec

    def logical(self, queue: str) -> str:
        """The pool's own name for one of `queues`."""
        return queue if self.node is None else queue.removesuffix(f".{self.node.name}")


def is_dedicated(node: SendingNode) -> bool:
    """Whether the node has workers of its own."""
    return node.spec.workers.placement == "Dedicated" and node.spec.workers.pool_ref is not None


def worker_sets(pools: Iterable[JobPool], nodes: Iterable[SendingNode]) -> tuple[WorkerSet, ...]:
    """Every set that there should be: each pool's shared one, then one per Dedicated node whose pool exists."""
    by_key = {pool.key: pool for pool in pools}
    dedicated = []
    for node in nodes:
        reference = node.spec.workers.pool_ref
        if reference is None or not is_dedicated(node):
            continue
        if pool := by_key.get(f"{node.metadata.namespace}/{reference.name}"):
            dedicated.append(WorkerSet(pool, node))
    return (*(WorkerSet(pool) for pool in by_key.values()), *dedicated)
