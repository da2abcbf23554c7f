"""Mirrors SendingNodes into `sending_nodes`, where the relay and the workers read them. Never credentials.

Level-based: what is given is what shall be there. A row that did not change is not touched, so that listeners wake only
for news. A database may have several mirrors, each of which answers for its own rows alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from postfleet_operator.errors import StoreUnavailable, said
from postfleet_operator.spec import SendingNode

# An owner that wrote nothing for so long is gone, and whoever has a node of that name may have its row.
OWNER_SECONDS = 180.0
# After so long its nodes are taken for deleted, too.
FORGOTTEN_SECONDS = 7 * 86400.0

SEEN = """
INSERT INTO node_owners (owner, seen_at) VALUES (%(owner)s, postfleet_now())
ON CONFLICT (owner) DO UPDATE SET seen_at = excluded.seen_at
"""

UPSERT = """
INSERT INTO sending_nodes AS mirrored (name, spec, paused, generation, owner, updated_at)
VALUES (%(name)s, %(spec)s, %(paused)s, %(generation)s, %(owner)s, postfleet_now())
ON CONFLICT (name) DO UPDATE
SET spec = excluded.spec, paused = excluded.paused, generation = excluded.generation, owner = excluded.owner,
    updated_at = excluded.updated_at
WHERE (mirrored.spec, mirrored.paused, mirrored.generation, mirrored.owner)
      IS DISTINCT FROM (excluded.spec, excluded.paused, excluded.generation, excluded.owner)
  AND NOT EXISTS (
      SELECT FROM node_owners o WHERE o.owner = mirrored.owner AND o.owner <> excluded.owner
         AND o.seen_at > postfleet_now() - make_interval(secs => %(alive)s)
  )
"""

# With the rows of nobody, and those of owners that are not expected back.
DELETE_OTHERS = """
DELETE FROM sending_nodes WHERE name <> ALL(%(names)s) AND (owner = %(owner)s OR owner IS NULL OR owner IN (
    SELECT owner FROM node_owners WHERE seen_at < postfleet_now() - make_interval(secs => %(forgotten)s)))
"""

FOREIGN = """
SELECT s.name, s.owner FROM sending_nodes s JOIN node_owners o ON o.owner = s.owner
WHERE s.name = ANY(%(names)s) AND s.owner <> %(owner)s
  AND o.seen_at > postfleet_now() - make_interval(secs => %(alive)s)
"""


@dataclass(frozen=True, slots=True)
class Mirrored:
    """What a mirroring changed; `foreign`: the nodes whose rows are another's, and whose."""

    written: int
    deleted: int
    foreign: Mapping[str, str] = field(default_factory=dict)


def mirror(
    connection: psycopg.Connection[Any],
    nodes: Sequence[SendingNode],
    owner: str,
    *,
    held: Collection[str] = (),
    kept: Collection[str] = (),
) -> Mirrored:
    """Make the rows of `owner` in `sending_nodes` hold `nodes`, and nothing else, in one transaction.

    Args:
        connection: to PostgreSQL.
        nodes: their names differ.
        owner: who mirrors, unlike any other that uses this database. Rows of others stay as they are.
        held: names of nodes that cannot work now: their mail waits as if they were paused, and uses up no attempts.
        kept: names of rows that stay as they are: nodes whose spec cannot be read.

    Raises:
        StoreUnavailable: PostgreSQL does not answer; nothing was changed.
    """
    rows = [{**_row(node, node.name in held), "owner": owner, "alive": OWNER_SECONDS} for node in nodes]
    names = [row["name"] for row in rows]
    try:
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute(SEEN, {"owner": owner})
            cursor.executemany(UPSERT, rows)
            written = max(cursor.rowcount, 0) if rows else 0
            others = {"owner": owner, "names": [*names, *kept], "forgotten": FORGOTTEN_SECONDS}
            deleted = cursor.execute(DELETE_OTHERS, others).rowcount
            others_now = foreign(connection, names, owner)
    except psycopg.Error as error:
        raise StoreUnavailable(f"PostgreSQL: {said(error)}") from error
    return Mirrored(written, deleted, others_now)


def foreign(connection: psycopg.Connection[Any], names: Sequence[str], owner: str) -> dict[str, str]:
    """Which of these nodes have a row that is another's, who lives, and whose.

    Raises:
        psycopg.Error: PostgreSQL does not answer.
    """
    asked = {"names": list(names), "owner": owner, "alive": OWNER_SECONDS}
    return dict(connection.execute(FOREIGN, asked).fetchall())


def _row(node: SendingNode, held: bool) -> dict[str, Any]:
    return {
        "name": node.name,
        "spec": Jsonb(node.spec.dump()),
        "paused": node.spec.paused or held,
        "generation": node.metadata.generation,
    }
