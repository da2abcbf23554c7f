"""Mirrors SendingNodes into `sending_nodes`, where the relay and the workers read them. Never credentials.

Level-based: what is given is what shall be there. A row that did not change is not touched, so that listeners wake only
for news.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.spec import SendingNode

UPSERT = """
INSERT INTO sending_nodes AS mirrored (name, spec, paused, generation, updated_at)
VALUES (%(name)s, %(spec)s, %(paused)s, %(generation)s, postfleet_now())
ON CONFLICT (name) DO UPDATE
SET spec = excluded.spec, paused = excluded.paused, generation = excluded.generation, updated_at = excluded.updated_at
WHERE (mirrored.spec, mirrored.paused, mirrored.generation)
      IS DISTINCT FROM (excluded.spec, excluded.paused, excluded.generation)
"""

DELETE_OTHERS = "DELETE FROM sending_nodes WHERE name <> ALL(%(names)s)"


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirroring changed; `problems` has one line per node that could not be mirrored."""

    written: int
    deleted: int
    problems: tuple[str, ...] = ()


def mirror(connection: psycopg.Connection[Any], nodes: Sequence[SendingNode]) -> Mirrored:
    """Make `sending_nodes` hold exactly `nodes`, in one transaction.

    Two nodes of one name (in different namespaces) would be one row: the first given wins, the other is a problem.

    Raises:
        StoreUnavailable: PostgreSQL does not answer; nothing was changed.
    """
    chosen: dict[str, SendingNode] = {}
    problems = []
    for node in nodes:
        if node.name in chosen:
            other = chosen[node.name].metadata.namespace
            problems.append(f"SendingNode {node.metadata.key}: namespace {other} has a node of that name, rename one")
        else:
            chosen[node.name] = node
    try:
        with connection.transaction():
            written = sum(connection.execute(UPSERT, _row(node)).rowcount for node in chosen.values())
            deleted = connection.execute(DELETE_OTHERS, {"names": list(chosen)}).rowcount
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL: {str(error).strip().splitlines()[0]}") from error
    return Mirrored(written, deleted, tuple(problems))


def _row(node: SendingNode) -> dict[str, Any]:
    return {
        "name": node.name,
        "spec": Jsonb(node.spec.dump()),
        "paused": node.spec.paused,
        "generation": node.metadata.generation,
    }
