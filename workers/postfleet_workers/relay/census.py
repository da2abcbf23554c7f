"""What waits in a queue, by group (tenant, batch, route), without ever counting more than a budget.

A backlog may hold millions of rows; nobody needs their number. So a queue has a budget of rows to count, which its
groups share: each gets the same, and what small groups leave over goes to the large ones. A group that had more than
its part says so (`more`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection, Row, text

from postfleet_workers.relay.allocate import Key
from postfleet_workers.store.arrays import texts

# What may be offered now. Counting and offering ask for the same, or the relay would wait for what it can never offer.
# Suspects (two strikes) are offered apart, see `rows.PUBLISH_SUSPECT`. The clock is read once, not for every row.
DUE = """(published_until IS NULL OR published_until <= (SELECT postfleet_now())) AND strikes < 2
      AND (expires_at IS NULL OR expires_at > (SELECT postfleet_now())) AND run_at <= (SELECT postfleet_now())"""

# A loose index scan of each queue: one probe per group, however many rows.
KEYS = text("""
SELECT q.queue, f.tenant, f.batch, f.route FROM unnest(CAST(:queues AS text[])) AS q(queue) CROSS JOIN LATERAL (
    WITH RECURSIVE g AS (
        (SELECT tenant, batch, route FROM jobs WHERE queue = q.queue AND state = 'available'
         ORDER BY tenant, batch, route LIMIT 1)
        UNION ALL
        SELECT n.tenant, n.batch, n.route FROM g CROSS JOIN LATERAL (
            SELECT tenant, batch, route FROM jobs WHERE queue = q.queue AND state = 'available'
              AND (tenant, batch, route) > (g.tenant, g.batch, g.route)
            ORDER BY tenant, batch, route LIMIT 1) n
    )
    SELECT tenant, batch, route FROM g) f
""")
# Of each group its most urgent rows up to a bound, from the index alone; and the type of its first row.
COUNT = text(f"""
SELECT k.tenant, k.batch, k.route, c.due, c.oldest, h.type
FROM unnest(CAST(:tenants AS text[]), CAST(:batches AS text[]), CAST(:routes AS text[])) AS k(tenant, batch, route)
CROSS JOIN LATERAL (
    SELECT count(*) AS due, extract(epoch FROM postfleet_now() - min(run_at)) AS oldest
    FROM (SELECT run_at FROM jobs
          WHERE queue = :queue AND state = 'available' AND tenant = k.tenant AND batch = k.batch AND route = k.route
            AND {DUE}
          ORDER BY priority, run_at, id LIMIT :most) counted) c
CROSS JOIN LATERAL (
    SELECT type FROM jobs
    WHERE queue = :queue AND state = 'available' AND tenant = k.tenant AND batch = k.batch AND route = k.route
    ORDER BY priority, run_at, id LIMIT 1) h
""")  # noqa: S608 - DUE is a constant
# Of every queue, whoever serves it: limits are shared. As many as the pipes hold.
OFFERED = text("""
SELECT queue, tenant, batch, route, count(*) AS jobs, extract(epoch FROM postfleet_now() - min(run_at)) AS oldest
FROM jobs WHERE state = 'available' AND published_until > postfleet_now() GROUP BY 1, 2, 3, 4
""")
EXECUTING = text("""
SELECT queue, tenant, batch, route, count(*) AS jobs,
       count(*) FILTER (WHERE claimed_at > postfleet_now() - interval '1 second') AS fresh,
       count(DISTINCT claim) AS bundles
FROM jobs WHERE state = 'executing' GROUP BY 1, 2, 3, 4
""")


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one (tenant, batch, route).

    Attributes:
        key: tenant, batch, route.
        due: rows that may be offered now; at least so many if there are `more`.
        published: rows on offer.
        oldest_seconds: how long the oldest of these two has waited.
        type: of its most urgent row.
        more: it has more due rows than were counted, or just as many.
    """

    key: Key
    due: int
    published: int
    oldest_seconds: float
    type: str
    more: bool = False


@dataclass(frozen=True, slots=True)
class Pipeful:
    """A group's jobs past the relay: on offer (the oldest since `oldest_seconds`), and claimed.

    `fresh` ones were claimed within a second and may not have asked for permits yet. The claimed ones are in `bundles`,
    each of which keeps one thread busy.
    """

    offered: int = 0
    running: int = 0
    bundles: int = 0
    fresh: int = 0
    oldest_seconds: float = 0.0

    @property
    def jobs(self) -> int:
        """All of them."""
        return self.offered + self.running


NONE = Pipeful()


def keys(connection: Connection, queues: Sequence[str]) -> dict[str, list[Key]]:
    """The groups with available rows, by queue."""
    found: dict[str, list[Key]] = defaultdict(list)
    for row in connection.execute(KEYS, {"queues": texts(queues)}):
        found[row.queue].append(_key(row))
    return found


def count(
    connection: Connection, queue: str, keys: Sequence[Key], budget: int, pipe: Mapping[Key, Pipeful]
) -> list[Group]:
    """Count these groups' due rows. Reads at most twice `budget` rows, and what is on offer."""
    if not keys:
        return []
    share = max(1, budget // len(keys))
    found = {group.key: group for group in _count(connection, queue, keys, share, pipe)}
    large = [group.key for group in found.values() if group.more]
    left = budget - sum(group.due for group in found.values())
    if large and left >= share * len(large):  # worth another look
        found |= {group.key: group for group in _count(connection, queue, large, share + left // len(large), pipe)}
    return list(found.values())


def _count(
    connection: Connection, queue: str, keys: Sequence[Key], most: int, pipe: Mapping[Key, Pipeful]
) -> Iterable[Group]:
    rows = connection.execute(COUNT, {"queue": queue, "most": most, **columns(keys)})
    for row in rows:
        key = _key(row)
        past = pipe.get(key, NONE)
        oldest = max(float(row.oldest or 0), past.oldest_seconds)
        yield Group(key, row.due, past.offered, oldest, row.type, more=row.due >= most)


def pipefuls(connection: Connection) -> dict[str, dict[Key, Pipeful]]:
    """What is on offer or executing, by queue and group; of every queue."""
    found: dict[str, dict[Key, Pipeful]] = defaultdict(dict)
    for row in connection.execute(OFFERED):
        found[row.queue][_key(row)] = Pipeful(offered=row.jobs, oldest_seconds=float(row.oldest))
    for row in connection.execute(EXECUTING):
        own = found[row.queue]
        own[_key(row)] = replace(own.get(_key(row), NONE), running=row.jobs, fresh=row.fresh, bundles=row.bundles)
    return found


def columns(keys: Sequence[Key]) -> dict[str, list[str]]:
    """Keys as the arrays `:tenants`, `:batches`, `:routes`."""
    tenants, batches, routes = ([key[n] for key in keys] for n in range(3))
    return {"tenants": tenants, "batches": batches, "routes": routes}


def _key(row: Row[tuple[str, ...]]) -> Key:
    return (row.tenant, row.batch, row.route)
