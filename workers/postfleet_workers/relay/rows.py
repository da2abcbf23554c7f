"""The relay's SQL: what falls due; publish some of it; who is past helping. Each statement is one question.

What is due, by group, is counted in `census`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

from sqlalchemy import Connection, text

from postfleet_workers.jobs import Job
from postfleet_workers.ledger import COLUMNS, Items, as_job, split
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.census import DUE, columns
from postfleet_workers.store.arrays import texts

# Every update of many rows locks them in a subselect that passes over what others hold: workers claim and settle in an
# order of their own, and whoever waits for a lock while holding others can deadlock. Ids that come from there as an
# array are looked up one by one; joined, the planner would read whole tables for a few thousand rows.

# Due rows become available, so many of each queue: the index then gives them in order, and no queue waits behind
# another's.
PROMOTE = text("""
WITH promoted AS (
    UPDATE jobs SET state = 'available' WHERE id = ANY(ARRAY(
        SELECT w.id FROM unnest(CAST(:queues AS text[])) AS q(queue) CROSS JOIN LATERAL (
            SELECT id FROM jobs WHERE state IN ('scheduled', 'retryable') AND queue = q.queue
              AND run_at <= (SELECT postfleet_now()) ORDER BY run_at LIMIT :most FOR UPDATE SKIP LOCKED) w))
    RETURNING queue
)
SELECT queue, count(*) AS jobs FROM promoted GROUP BY queue
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

WAITING = text("""
SELECT route, count(*) AS jobs, extract(epoch FROM min(run_at)) AS next_run_at FROM (
    SELECT route, run_at FROM jobs WHERE queue = :queue AND state IN ('scheduled', 'retryable')
    ORDER BY run_at LIMIT :most) w
GROUP BY route
""")

# The same of several queues, of rows that fall due within some seconds.
SOON = text("""
SELECT w.route, count(*) AS jobs FROM unnest(CAST(:queues AS text[])) AS q(queue) CROSS JOIN LATERAL (
    SELECT route FROM jobs WHERE queue = q.queue AND state IN ('scheduled', 'retryable')
      AND run_at <= (SELECT postfleet_now()) + make_interval(secs => :seconds) ORDER BY run_at LIMIT :most) w
GROUP BY w.route
""")

# Publishing is a lease: the row stays available, offered to one message until `published_until`.
PUBLISH = text(f"""
WITH picked AS (
    SELECT id, row_number() OVER (ORDER BY priority, run_at, id) AS place FROM (
        SELECT id, priority, run_at FROM jobs WHERE queue = :queue AND state = 'available' AND tenant = :tenant
          AND batch = :batch AND route = :route AND {DUE}
        ORDER BY priority, run_at, id LIMIT :most FOR UPDATE SKIP LOCKED) urgent
)
UPDATE jobs j SET publication = j.publication + 1,
    published_until = (SELECT postfleet_now()) + make_interval(secs => :seconds)
FROM picked WHERE j.id = picked.id AND j.id = ANY(ARRAY(SELECT id FROM picked))
RETURNING j.id, j.publication, j.type, picked.place
""")  # noqa: S608 - DUE is a constant

# A job that saw two workers die is published alone, one at a time, so that the third death names the culprit.
# Asked for by both states first: only the suspects' own index can answer that. By `available` alone, a planner without
# fresh statistics walks the whole backlog instead.
PUBLISH_SUSPECT = text("""
WITH suspects AS MATERIALIZED (
    SELECT * FROM jobs WHERE queue = :queue AND strikes >= 2 AND state IN ('available', 'executing')
)
UPDATE jobs j SET publication = j.publication + 1,
    published_until = postfleet_now() + make_interval(secs => :seconds)
WHERE j.id = (SELECT id FROM jobs WHERE id IN (
                  SELECT id FROM suspects WHERE state = 'available'
                    AND (tenant, batch, route) IN (SELECT * FROM unnest(
                        CAST(:tenants AS text[]), CAST(:batches AS text[]), CAST(:routes AS text[])))
                    AND (expires_at IS NULL OR expires_at > postfleet_now()) AND run_at <= postfleet_now())
              ORDER BY run_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
  AND j.state = 'available'
  AND NOT EXISTS (SELECT FROM suspects s
                  WHERE s.state = 'executing' OR s.state = 'available' AND s.published_until > postfleet_now())
RETURNING j.id, j.publication, j.type, j.priority, j.run_at
""")

EXTEND = text("""
UPDATE jobs SET published_until = postfleet_now() + make_interval(secs => :seconds) WHERE id IN (
    SELECT j.id FROM jobs j
    JOIN unnest(CAST(:ids AS bigint[]), CAST(:publications AS integer[])) AS m(id, publication)
      ON j.id = m.id AND j.publication = m.publication
    WHERE j.state = 'available' AND j.published_until IS NOT NULL FOR UPDATE OF j SKIP LOCKED)
""")
OFFERED = text("""
SELECT j.id, j.publication, j.queue, j.route, j.state = 'executing' AS executing FROM jobs j
JOIN unnest(CAST(:ids AS bigint[]), CAST(:publications AS integer[])) AS m(id, publication)
  ON j.id = m.id AND j.publication = m.publication
WHERE j.state = 'executing' OR j.state = 'available' AND j.published_until IS NOT NULL
""")
LAPSE = text("""
UPDATE jobs SET published_until = NULL WHERE id IN (
    SELECT id FROM jobs WHERE queue = ANY(:queues) AND state = 'available' AND published_until IS NOT NULL
    FOR UPDATE SKIP LOCKED)
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
                 AND state IN ('scheduled', 'available', 'retryable')
               ORDER BY expires_at LIMIT :most FOR UPDATE SKIP LOCKED)
RETURNING {COLUMNS}
""")  # noqa: S608 - COLUMNS is a constant


@dataclass(frozen=True, slots=True)
class Published:
    """A row on offer, as the message carries it."""

    id: int
    publication: int
    type: str


@dataclass(frozen=True, slots=True)
class Offer:
    """A row that a message may still mean: where it should go, and whether somebody executes it."""

    queue: str
    route: str
    executing: bool


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An executing job without a worker (`dead`), or with one that is stuck."""

    job: Job
    worker: str
    dead: bool


def promote(connection: Connection, queues: Sequence[str], most: int) -> dict[str, int]:
    """Make up to `most` due rows of each queue available, the longest due first; how many of which."""
    found = connection.execute(PROMOTE, {"queues": texts(queues), "most": most})
    return {row.queue: row.jobs for row in found}


def queues(connection: Connection) -> set[str]:
    """Every queue with unfinished jobs."""
    return {row.queue for row in connection.execute(QUEUES)}


def waiting(connection: Connection, queue: str, most: int) -> dict[str, tuple[int, float]]:
    """Rows that wait for their time and the earliest time (epoch seconds), by route; bounded by `most` in all."""
    found = connection.execute(WAITING, {"queue": queue, "most": most})
    return {row.route: (row.jobs, float(row.next_run_at)) for row in found}


def soon(connection: Connection, queues: Sequence[str], seconds: float, most: int) -> dict[str, int]:
    """Rows of these queues that wait, and for no longer than `seconds`, by route; up to `most` of each queue."""
    found = connection.execute(SOON, {"queues": list(queues), "seconds": seconds, "most": most})
    return {row.route: row.jobs for row in found}


def publish(connection: Connection, queue: str, key: Key, most: int, seconds: float) -> list[Published]:
    """Offer up to `most` of a group's rows for `seconds`, most urgent first."""
    tenant, batch, route = key
    row = {"queue": queue, "tenant": tenant, "batch": batch, "route": route, "most": most, "seconds": seconds}
    found = sorted(connection.execute(PUBLISH, row).all(), key=itemgetter(3))
    return [Published(r[0], r[1], r[2]) for r in found]


def publish_suspect(connection: Connection, queue: str, keys: Sequence[Key], seconds: float) -> Published | None:
    """Offer one job of these groups that is suspected of killing workers, if none of the queue is on its way."""
    given = {"queue": queue, **columns(keys), "seconds": seconds}
    row = connection.execute(PUBLISH_SUSPECT, given).one_or_none()
    return None if row is None else Published(row.id, row.publication, row.type)


def extend(connection: Connection, items: Items, seconds: float) -> None:
    """Keep rows on offer whose message still waits in Redis."""
    connection.execute(EXTEND, {**split(items), "seconds": seconds})


def offered(connection: Connection, items: Items) -> dict[tuple[int, int], Offer]:
    """Which (id, publication) still mean something, on offer or executing."""
    found = connection.execute(OFFERED, split(items))
    return {(row.id, row.publication): Offer(row.queue, row.route, row.executing) for row in found}


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


def expire(connection: Connection, queues: Sequence[str], most: int) -> list[Job]:
    """Cancel up to `most` jobs that may not run any more."""
    return [as_job(row) for row in connection.execute(EXPIRED, {"queues": list(queues), "most": most})]
