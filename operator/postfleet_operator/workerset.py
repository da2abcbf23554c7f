"""The workers of one Deployment: a pool's shared ones, or those that a Dedicated node has to itself. Pure.

A Dedicated node's mail must leave from its own place, so it has a Deployment of its own, made from its pool's template,
on queues of its own (`<queue>.<node>`), scaled under the pool's policy.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from postfleet_operator.spec import JobPool, PoolSpec, SendingNode

SHARED = "shared"


@dataclass(frozen=True, slots=True)
class WorkerSet:
    """What one Deployment runs.

    Attributes:
        pool: whose template and policy it has.
        node: the Dedicated node; None for the pool's shared workers.
        taken: the pool's queues that an older pool lists too, and which one: it works on them but does not scale on
            them, or both would start workers for the same jobs.
    """

    pool: JobPool
    node: SendingNode | None = None
    taken: Mapping[str, str] = field(default_factory=dict, compare=False)

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
        return self.pool.spec.queues if self.node is None else tuple(map(self.physical, self.pool.spec.queues))

    @property
    def spec(self) -> PoolSpec:
        """The pool's spec. Its `queues` are the pool's own names; `queues` above are what Redis calls them."""
        return self.pool.spec

    @property
    def own_queues(self) -> tuple[str, ...]:
        """The pool's names of the queues that the set scales on."""
        return tuple(queue for queue in self.pool.spec.queues if queue not in self.taken)

    def physical(self, queue: str) -> str:
        """What Redis calls one of the pool's queues."""
        return queue if self.node is None else f"{queue}.{self.node.name}"

    def logical(self, queue: str) -> str:
        """The pool's own name for one of `queues`."""
        return queue if self.node is None else queue.removesuffix(f".{self.node.name}")


def is_dedicated(node: SendingNode) -> bool:
    """Whether the node has workers of its own."""
    return node.spec.workers.placement == "Dedicated" and node.spec.workers.pool_ref is not None


def worker_sets(pools: Iterable[JobPool], nodes: Iterable[SendingNode]) -> tuple[WorkerSet, ...]:
    """Every set that there should be: each pool's shared one, then one per Dedicated node whose pool exists.

    Of nodes with one name in several namespaces only the oldest: they would work on the same queues.
    """
    by_key = {pool.key: pool for pool in pools}
    nodes = list(nodes)
    names: dict[str, str] = {}
    for node in sorted(nodes, key=lambda node: (node.metadata.created_at, node.key)):
        names.setdefault(node.name, node.key)
    taken = _taken(by_key.values())
    dedicated = []
    for node in nodes:
        reference = node.spec.workers.pool_ref
        if reference is None or not is_dedicated(node) or names[node.name] != node.key:
            continue
        if pool := by_key.get(f"{node.metadata.namespace}/{reference.name}"):
            dedicated.append(WorkerSet(pool, node, taken.get(pool.key, {})))
    return (*(WorkerSet(pool, None, taken.get(key, {})) for key, pool in by_key.items()), *dedicated)


def _taken(pools: Iterable[JobPool]) -> dict[str, dict[str, str]]:
    """By pool, its queues that an older pool has; the same in every namespace, because queues know none."""
    owners: dict[str, str] = {}
    taken: dict[str, dict[str, str]] = {}
    for pool in sorted(pools, key=lambda pool: (pool.metadata.created_at, pool.key)):
        for queue in pool.spec.queues:
            owner = owners.setdefault(queue, pool.key)
            if owner != pool.key:
                taken.setdefault(pool.key, {})[queue] = owner
    return taken
