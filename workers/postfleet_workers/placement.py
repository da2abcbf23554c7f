"""Whose workers send a node's mail: the shared ones of its pool, or its own (`placement: Dedicated`). Pure.

A Dedicated node has queues of its own in Redis, `<queue>.<node>`; the ledger's queue stays the same. Workers know which
node they serve by POSTFLEET_NODE.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SHARED = "shared"


def is_dedicated(spec: Mapping[str, Any]) -> bool:
    """Whether a node's mirrored spec gives it workers of its own."""
    workers = spec.get("workers") or {}
    return workers.get("placement") == "Dedicated" and bool(workers.get("poolRef"))


def logical(queue: str, node: str) -> str:
    """The ledger's name of a queue that workers of `node` (or the shared ones) listen to."""
    return queue if node == SHARED else queue.removesuffix(f".{node}")
