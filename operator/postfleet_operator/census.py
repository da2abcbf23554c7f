"""Pools, nodes and worker sets as they are at one moment, and what can be said of the nodes from that alone. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from postfleet_operator.cluster import BrokenNode, BrokenPool
from postfleet_operator.conditions import Problem
from postfleet_operator.reasons import Reason
from postfleet_operator.rivals import namesakes, older_first
from postfleet_operator.spec import JobPool, SendingNode
from postfleet_operator.workerset import WorkerSet, worker_sets

# Without these a node's mail could only fail; what may pass by itself is no reason to hold it.
HELD = frozenset({Reason.SECRET_MISSING, Reason.SECRET_KEY_MISSING, Reason.SECRET_TOO_LARGE, Reason.POOL_MISSING})


@dataclass(frozen=True, slots=True)
class Census:
    """What there is.

    Attributes:
        pools: those that can be read.
        broken_pools: the others.
        nodes: those that can be read, the oldest first.
        broken_nodes: the others.
        mirrored: the nodes that the database shall know.
        sets: every worker set that there should be; none of a pool that is being deleted.
        own_sets: of these, the Dedicated ones, by node key.
        name_problems: by node key, why the database does not take the name.
        pool_problems: by node key, why no pool sends for it.
    """

    pools: Sequence[JobPool]
    broken_pools: Sequence[BrokenPool]
    nodes: Sequence[SendingNode]
    broken_nodes: Sequence[BrokenNode]
    mirrored: Sequence[SendingNode]
    sets: Sequence[WorkerSet]
    own_sets: Mapping[str, WorkerSet]
    name_problems: Mapping[str, Problem]
    pool_problems: Mapping[str, Problem]

    @property
    def served_by_own(self) -> Mapping[str, tuple[str, ...]]:
        """By name of a Dedicated node, the queues that its own workers listen to, as the ledger calls them."""
        return {workers.node.name: workers.spec.queues for workers in self.sets if workers.node is not None}

    def held(self, credential_problems: Mapping[str, Problem]) -> frozenset[str]:
        """Names of the nodes whose mail waits until somebody has mended something."""
        return frozenset(
            node.name
            for node in self.mirrored
            for problems in (credential_problems, self.pool_problems)
            if node.key in problems and problems[node.key].reason in HELD
        )


def take(pools: Sequence[JobPool | BrokenPool], nodes: Sequence[SendingNode | BrokenNode]) -> Census:
    """Look at what there is."""
    names = namesakes(nodes)
    readable = older_first(node for node in nodes if isinstance(node, SendingNode))
    whole = [pool for pool in pools if isinstance(pool, JobPool)]
    # What is made for a pool that is going keeps it from going.
    sets = worker_sets([pool for pool in whole if not pool.metadata.deleting], readable)
    keys = {pool.key for pool in pools}
    return Census(
        pools=whole,
        broken_pools=[pool for pool in pools if isinstance(pool, BrokenPool)],
        nodes=readable,
        broken_nodes=[node for node in nodes if isinstance(node, BrokenNode)],
        mirrored=[node for node in readable if node.key not in names],
        sets=sets,
        own_sets={workers.node.key: workers for workers in sets if workers.node is not None},
        name_problems=names,
        pool_problems={node.key: missing for node in readable if (missing := _pool_missing(node, keys))},
    )


def _pool_missing(node: SendingNode, pools: Collection[str]) -> Problem | None:
    reference = node.spec.workers.pool_ref
    if reference is None or f"{node.metadata.namespace}/{reference.name}" in pools:
        return None
    where = f"there is no JobPool {reference.name} in namespace {node.metadata.namespace}"
    return Problem(Reason.POOL_MISSING, f"spec.workers.poolRef: {where}, so nobody sends its mail")
