"""Who may put how much into the pipe. Pure.

The pipe of a queue has a number of free slots (bundles). They go, one at a time, to the tenant that holds the least of
the pipe for its weight, within a tenant to the batch that holds the least, and within a batch to the group (route) that
does; among equals to the one whose turn it is. So a campaign over many nodes and sites crowds out no smaller one. A
group stops taking when it has nothing due, or when a limit that it shares with others permits no more in the next
seconds.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from postfleet_workers.relay.turns import Turns

Key = tuple[str, str, str]  # tenant, batch, route


@dataclass(frozen=True, slots=True)
class Demand:
    """What a group has due. `in_pipe`: its jobs published or executing; `limits`: keys into `permitted`."""

    key: Key
    weight: int
    due: int
    in_pipe: int
    bundle: int
    limits: tuple[str, ...] = ()


@dataclass(slots=True)
class _Group:
    demand: Demand
    left: int
    bundles: float
    taken: int = 0


def allocate(
    slots: int, demands: Sequence[Demand], permitted: Mapping[str, int], turns: Turns | None = None
) -> dict[Key, int]:
    """Jobs that each group may publish now; groups that get nothing are absent.

    Args:
        slots: free bundles in the pipe.
        demands: one per group of the queue.
        permitted: what each limit lets through in the next seconds, less what is in the pipe already.
        turns: who was served before; notes who is served now.
    """
    turns = turns or Turns()
    rest = dict(permitted)
    groups: dict[str, list[_Group]] = defaultdict(list)
    load: dict[str, float] = defaultdict(float)  # bundles in the pipe per unit of weight
    weight: dict[str, int] = {}
    of_batch: dict[tuple[str, str], float] = defaultdict(float)  # bundles in the pipe
    for demand in demands:
        tenant = demand.key[0]
        bundles = demand.in_pipe / demand.bundle
        weight[tenant] = demand.weight
        load[tenant] += bundles / demand.weight
        of_batch[demand.key[:2]] += bundles
        if demand.due > 0 and all(rest.get(limit, 0) > 0 for limit in demand.limits):
            groups[tenant].append(_Group(demand, demand.due, bundles))
    taken = [group for own in groups.values() for group in own]
    turns.enter(group.demand.key for group in taken)
    heap = [(load[tenant], turns.tenant(tenant), tenant) for tenant in groups]
    heapq.heapify(heap)
    while slots > 0 and heap:
        *_, tenant = heapq.heappop(heap)
        own = groups[tenant]
        group = min(own, key=lambda g: (of_batch[g.demand.key[:2]], g.bundles, turns.group(g.demand.key)))
        take = min(group.demand.bundle, group.left, *(rest.get(limit, 0) for limit in group.demand.limits))
        if take > 0:
            slots -= 1
            group.taken += take
            group.left -= take
            group.bundles += 1
            of_batch[group.demand.key[:2]] += 1
            load[tenant] += 1 / weight[tenant]
            turns.took(group.demand.key, weight[tenant])
            for limit in group.demand.limits:
                rest[limit] -= take
        if take <= 0 or not group.left:
            own.remove(group)
        if own:
            heapq.heappush(heap, (load[tenant], turns.tenant(tenant), tenant))
    return {group.demand.key: group.taken for group in taken if group.taken}
