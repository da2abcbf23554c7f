"""Routes of mail, and whose workers send it: the shared ones of a pool, or a node's own (`placement: Dedicated`). Pure.

A mail's route is its sending node, or `<node>/<site>` for a named site that limits the node's mail, so that what waits
for one site stands in nobody's way. A Dedicated node has queues of its own in Redis, `<queue>.<node>`; the ledger's
queue stays the same. Workers know which node they serve by POSTFLEET_NODE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARED = "shared"
SEPARATOR = "/"  # in no name of a node


def route(node: str, site: str = "") -> str:
    """The route of a node's mail, to a site of its own or to any other."""
    return f"{node}{SEPARATOR}{site}" if site else node


def node_of(route: str) -> str:
    """The sending node of a route; '' for what is no mail."""
    return route.partition(SEPARATOR)[0]


def site_of(route: str) -> str:
    """The site of a route; '' where it is not one site's."""
    return route.partition(SEPARATOR)[2]


def is_dedicated(spec: Mapping[str, Any]) -> bool:
    """Whether a node's mirrored spec gives it workers of its own."""
    workers = spec.get("workers") or {}
    return workers.get("placement") == "Dedicated" and bool(workers.get("poolRef"))


def logical(queue: str, node: str) -> str:
    """The ledger's name of a queue that workers of `node` (or the shared ones) listen to."""
    return queue if node == SHARED else queue.removesuffix(f".{node}")
