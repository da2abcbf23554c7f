"""Mirrors SendingNodes into `sending_nodes`, where the relay and the workers read them. Never credentials.

Level-based: what is given is what shall be there. A row that did not change is not touched, so that listeners wake only
for news.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
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
    """What a mirroring changed."""

    written: int
    deleted: int


def mirror(
    connection: psycopg.Connection[Any],
    nodes: Sequence[SendingNode],
    *,
    held: Collection[str] = (),
    kept: Collection[str] = (),
) -> Mirrored:
    """Make `sending_nodes` hold `nodes`, and nothing else, in one transaction.

    Args:
        connection: to PostgreSQL.
        nodes: their names differ.
        held: names of nodes that cannot work now: their mail waits as if they were paused, and uses up no attempts.
        kept: names of rows that stay as they are: nodes whose spec cannot be read.

    Raises:
        StoreUnavailable: PostgreSQL does not answer; nothing was changed.
    """
    rows = [_row(node, node.name in held) for node in nodes]
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(UPSERT, rows)
            written = max(cursor.rowcount, 0)
            deleted = cursor.execute(DELETE_OTHERS, {"names": [*(row["name"] for row in rows), *kept]}).rowcount
    except psycopg.Error as error:
        raise StoreUnavailable(f"PostgreSQL: {str(error).strip().splitlines()[0]}") from error
    return Mirrored(written, deleted)


def _row(node: SendingNode, held: bool) -> dict[str, Any]:
    return {
        "name": node.name,
        "spec": Jsonb(node.spec.dump()),
        "paused": node.spec.paused or held,
        "generation": node.metadata.generation,
    }
