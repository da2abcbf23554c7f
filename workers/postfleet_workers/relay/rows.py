"""The relay's SQL: what is due, by group; publish some of it; who is past helping. Each statement is one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from postfleet_workers.jobs import Job
from postfleet_workers.ledger import COLUMNS, as_job
from postfleet_workers.relay.allocate import Key

# Due rows become available; the index by run_at makes this touch only what is due.
PROMOTE = text("""
UPDATE jobs SET state = 'available' WHERE id IN (
    SELECT id FROM jobs WHERE state IN ('scheduled', 'retryable') AND queue = ANY(:queues)
      AND run_at <= postfleet_now() ORDER BY run_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING queue
""")

# A loose index scan: one probe per queue, however many rows.
QUEUES = text("""
WITH RECURSIVE q AS (
    (SELECT queue FROM jobs WHERE state = 'available' ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM jobs WHERE state = 'available' AND queue > q.queue ORDER BY queue LIMIT 1)
    FROM q WHERE q.queue IS NOT NULL
), w AS (
    (SELECT queue FROM jobs WHERE state IN ('scheduled', 'retryable') ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM jobs WHERE state IN ('scheduled', 'retryable') AND queue > w.queue ORDER BY queue LIMIT 1)
    FROM w WHERE w.queue IS NOT NULL
)
SELECT queue FROM q WHERE queue IS NOT NULL UNION SELECT queue FROM w WHERE queue IS NOT NULL
UNION SELECT DISTINCT queue FROM jobs WHERE state = 'executing'
""")

# The groups (tenant, batch, route) of a queue, again by probes; of each, its most urgent rows up to a bound.
GROUPS = text("""
WITH RECURSIVE g AS (
    (SELECT tenant, batch, route FROM jobs WHERE queue = :queue AND state = 'available'
     ORDER BY tenant, batch, route LIMIT 1)
    UNION ALL
    SELECT n.tenant, n.batch, n.route FROM g CROSS JOIN LATERAL (
        SELECT tenant, batch, route FROM jobs WHERE queue = :queue AND state = 'available'
          AND (tenant, batch, route) > (g.tenant, g.batch, g.route)
        ORDER BY tenant, batch, route LIMIT 1) n
)
SELECT g.tenant, g.batch, g.route, c.due, c.published, c.oldest, c.type
FROM g CROSS JOIN LATERAL (
    SELECT count(*) FILTER (WHERE NOT p) AS due, count(*) FILTER (WHERE p) AS published,
           extract(epoch FROM postfleet_now() - min(run_at)) AS oldest, min(type) AS type
    FROM (SELECT run_at, type, coalesce(published_until > postfleet_now(), false) AS p FROM jobs j
          WHERE j.queue = :queue AND j.state = 'available' AND j.tenant = g.tenant AND j.batch = g.batch
            AND j.route = g.route ORDER BY priority, run_at, id LIMIT :most) rows) c
""")
EXECUTING = text("""
SELECT tenant, batch, route, count(*) AS jobs,
       count(*) FILTER (WHERE claimed_at > postfleet_now() - interval '1 second') AS fresh
FROM jobs WHERE state = 'executing' AND queue = :queue GROUP BY 1, 2, 3
""")
WAITING = text("""
SELECT count(*) AS jobs, extract(epoch FROM min(run_at)) AS next_run_at FROM (
    SELECT run_at FROM jobs WHERE queue = :queue AND state IN ('scheduled', 'retryable') ORDER BY run_at LIMIT :most) w
""")

# Publishing is a lease: the row stays available, offered to one message until `published_until`.
PUBLISH = text("""
WITH picked AS (
    SELECT id FROM jobs WHERE queue = :queue AND state = 'available' AND tenant = :tenant AND batch = :batch
      AND route = :route AND (published_until IS NULL OR published_until <= postfleet_now()) AND strikes < 2
      AND (expires_at IS NULL OR expires_at > postfleet_now())
    ORDER BY priority, run_at, id LIMIT :most FOR UPDATE SKIP LOCKED
)
UPDATE jobs j SET publication = j.publication + 1,
    published_until = postfleet_now() + make_interval(secs => :seconds)
FROM picked WHERE j.id = picked.id
RETURNING j.id, j.publication, j.type, j.priority, j.run_at
""")

# A job that saw two workers die is published alone, one at a time, so that the third death names the culprit.
PUBLISH_SUSPECT = text("""
UPDATE jobs j SET publication = j.publication + 1,
    published_until = postfleet_now() + make_interval(secs => :seconds)
WHERE j.id = (SELECT id FROM jobs WHERE queue = :queue AND state = 'available' AND strikes >= 2
                AND (tenant, batch, route) IN (SELECT * FROM unnest(
                    CAST(:tenants AS text[]), CAST(:batches AS text[]), CAST(:routes AS text[])))
                AND (expires_at IS NULL OR expires_at > postfleet_now()) AND run_at <= postfleet_now()
              ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
  AND NOT EXISTS (SELECT FROM jobs o WHERE o.queue = :queue AND o.strikes >= 2
                    AND (o.state = 'executing' OR o.state = 'available' AND o.published_until > postfleet_now()))
RETURNING j.id, j.publication, j.type, j.priority, j.run_at
""")

EXTEND = text("""
UPDATE jobs j SET published_until = postfleet_now() + make_interval(secs => :seconds)
FROM unnest(CAST(:ids AS bigint[]), CAST(:publications AS integer[])) AS m(id, publication)
WHERE j.id = m.id AND j.publication = m.publication AND j.state = 'available' AND j.published_until IS NOT NULL
""")
OFFERED = text("""
SELECT j.id, j.publication FROM jobs j
JOIN unnest(CAST(:ids AS bigint[]), CAST(:publications AS integer[])) AS m(id, publication)
  ON j.id = m.id AND j.publication = m.publication
WHERE j.state = 'executing' OR j.state = 'available' AND j.published_until IS NOT NULL
""")
LAPSE = text("""
UPDATE jobs SET published_until = NULL WHERE queue = ANY(:queues) AND state = 'available'
  AND published_until IS NOT NULL
""")

# Whose worker is gone, or which run past their type's limit although it lives.
ABANDONED = text(f"""
SELECT {COLUMNS}, j.claimed_by,
       (w.id IS NULL OR w.stopped_at IS NOT NULL OR w.lease_until <= postfleet_now()) AS dead
FROM jobs j LEFT JOIN workers w ON w.id = j.claimed_by
WHERE j.state = 'executing' AND j.queue = ANY(:queues)
  AND (w.id IS NULL OR w.stopped_at IS NOT NULL OR w.lease_until <= postfleet_now()
       OR j.claimed_at < postfleet_now() - make_interval(secs => coalesce(
            (CAST(:timeouts AS jsonb) ->> j.type)::float8, :default_timeout)))
ORDER BY j.claim, j.id LIMIT :most FOR UPDATE OF j SKIP LOCKED
""")  # noqa: S608 - COLUMNS is a constant
EXPIRED = text(f"""
UPDATE jobs j SET state = 'cancelled', finished_at = postfleet_now(), last_error = 'expired before it could run',
    published_until = NULL
WHERE j.id IN (SELECT id FROM jobs WHERE expires_at <= postfleet_now() AND queue = ANY(:queues)
                 AND state IN ('scheduled', 'available', 'retryable') LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
""")  # noqa: S608 - COLUMNS is a constant


@dataclass(frozen=True, slots=True)
class Group:
    """Rows of one (tenant, batch, route): `due` ones, those on offer, age of the oldest, one of their types."""

    key: Key
    due: int
    published: int
    oldest_seconds: float
    type: str


@dataclass(frozen=True, slots=True)
class Running:
    """Claimed jobs of a group; `fresh` ones were claimed within a second and may not have asked for permits yet."""

    jobs: int = 0
    fresh: int = 0


@dataclass(frozen=True, slots=True)
class Published:
    """A row on offer, as the message carries it."""

    id: int
    publication: int
    type: str


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An executing job without a worker (`dead`), or with one that is stuck."""

    job: Job
    worker: str
    dead: bool


def promote(connection: Connection, queues: Sequence[str], most: int = 5000) -> int:
    """Make due rows available; how many."""
    return len(connection.execute(PROMOTE, {"queues": list(queues), "most": most}).all())


def queues(connection: Connection) -> set[str]:
    """Every queue with unfinished jobs."""
    return {row.queue for row in connection.execute(QUEUES)}


def groups(connection: Connection, queue: str, most: int) -> list[Group]:
    """The queue's groups with available rows; counts are bounded by `most` for each."""
    rows = connection.execute(GROUPS, {"queue": queue, "most": most})
    return [Group((r.tenant, r.batch, r.route), r.due, r.published, float(r.oldest or 0), r.type) for r in rows]


def executing(connection: Connection, queue: str) -> dict[Key, Running]:
    """Claimed jobs by group."""
    rows = connection.execute(EXECUTING, {"queue": queue})
    return {(r.tenant, r.batch, r.route): Running(r.jobs, r.fresh) for r in rows}


def waiting(connection: Connection, queue: str, most: int) -> tuple[int, float | None]:
    """Rows that wait for their time (bounded by `most`) and the earliest time (epoch seconds)."""
    row = connection.execute(WAITING, {"queue": queue, "most": most}).one()
    return row.jobs, None if row.next_run_at is None else float(row.next_run_at)


def publish(connection: Connection, queue: str, key: Key, most: int, seconds: float) -> list[Published]:
    """Offer up to `most` of a group's rows for `seconds`, most urgent first."""
    tenant, batch, route = key
    row = {"queue": queue, "tenant": tenant, "batch": batch, "route": route, "most": most, "seconds": seconds}
    found = sorted(connection.execute(PUBLISH, row), key=lambda r: (r.priority, r.run_at, r.id))
    return [Published(r.id, r.publication, r.type) for r in found]


def publish_suspect(connection: Connection, queue: str, keys: Sequence[Key], seconds: float) -> Published | None:
    """Offer one job of these groups that is suspected of killing workers, if none of the queue is on its way."""
    tenants, batches, routes = ([key[n] for key in keys] for n in range(3))
    given = {"queue": queue, "tenants": tenants, "batches": batches, "routes": routes, "seconds": seconds}
    row = connection.execute(PUBLISH_SUSPECT, given).one_or_none()
    return None if row is None else Published(row.id, row.publication, row.type)


def extend(connection: Connection, items: Sequence[tuple[int, int]], seconds: float) -> None:
    """Keep rows on offer whose message still waits in Redis."""
    connection.execute(EXTEND, {**_split(items), "seconds": seconds})


def offered(connection: Connection, items: Sequence[tuple[int, int]]) -> set[tuple[int, int]]:
    """Which (id, publication) still mean something: on offer or executing."""
    return {(row.id, row.publication) for row in connection.execute(OFFERED, _split(items))}


def lapse(connection: Connection, queues: Sequence[str]) -> None:
    """Take every offer back: Redis has forgotten them."""
    connection.execute(LAPSE, {"queues": list(queues)})


def abandoned(
    connection: Connection, queues: Sequence[str], timeouts_json: str, default_timeout: float, most: int = 500
) -> list[Abandoned]:
    """Executing jobs to rescue, locked until the transaction ends."""
    row = {"queues": list(queues), "timeouts": timeouts_json, "default_timeout": default_timeout, "most": most}
    found = connection.execute(ABANDONED, row)
    return [Abandoned(Job(*tuple(r)[:-2]), r.claimed_by, r.dead) for r in found]


def expire(connection: Connection, queues: Sequence[str], most: int = 500) -> list[Job]:
    """Cancel what may not run any more."""
    return [as_job(row) for row in connection.execute(EXPIRED, {"queues": list(queues), "most": most})]


def _split(items: Sequence[tuple[int, int]]) -> dict[str, list[int]]:
    return {"ids": [i for i, _ in items], "publications": [p for _, p in items]}
