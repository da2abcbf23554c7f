"""The moves of jobs that a person asks for: retry, cancel, discard; and the mail that follows its job.

Each is one guarded UPDATE whose source states come from `states`, in the caller's transaction, together with the email
rows, so that a job and its mail never tell different stories.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Row, TextClause, text

from postfleet_workers.enqueue import notify
from postfleet_workers.states import FINAL, WAITING, State, sources

# `FOR UPDATE` in order of the id: two people at once wait for each other instead of deadlocking.
LOCK = text("SELECT id, state, queue FROM jobs WHERE id = ANY(:ids) ORDER BY id FOR UPDATE")
FIND = text("""
SELECT id FROM jobs
WHERE state = :state AND (CAST(:queue AS text) IS NULL OR queue = :queue) AND id > :after
ORDER BY id LIMIT :limit
""")
# Two questions, as each has its index; what executes is never much. BETWEEN and the order keep the planner from walking
# all jobs by their ids until enough of them are the batch's.
FIND_BATCH = text("""
WITH running AS MATERIALIZED (
    SELECT id FROM jobs WHERE batch = :batch AND state = 'executing' AND NOT cancel_requested
)
(SELECT id FROM jobs WHERE batch BETWEEN :batch AND :batch AND batch <> ''
   AND state IN ('scheduled', 'available', 'retryable') AND NOT cancel_requested ORDER BY batch, id LIMIT :limit)
UNION ALL
SELECT id FROM running
ORDER BY id LIMIT :limit
""")

# A unique key may have been taken by another job meanwhile, or be shared by two that were discarded: the newest wins.
RETRY = text("""
WITH wanted AS (
    SELECT id, row_number() OVER (PARTITION BY type, coalesce(unique_key, id::text) ORDER BY id DESC) AS nth
    FROM jobs WHERE id = ANY(:ids) AND state = ANY(:sources)
)
UPDATE jobs j SET state = 'available', attempt = 0, strikes = 0, run_at = postfleet_now(), finished_at = NULL,
    expires_at = CASE WHEN j.expires_at > postfleet_now() THEN j.expires_at END,
    published_until = NULL, claimed_by = NULL, claim = NULL, claim_epoch = NULL, claimed_at = NULL,
    cancel_requested = false
FROM wanted w
WHERE j.id = w.id AND w.nth = 1 AND NOT EXISTS (
    SELECT FROM jobs o WHERE o.type = j.type AND o.unique_key = j.unique_key AND o.id <> j.id
        AND o.state NOT IN ('cancelled', 'discarded'))
RETURNING j.id, j.queue
""")
REQUEUE_MAIL = text("""
UPDATE emails SET status = 'queued', finished_at = NULL, due_at = postfleet_now()
WHERE job_id = ANY(:ids) AND status IN ('cancelled', 'failed', 'expired')
""")

CANCEL = text("""
UPDATE jobs SET state = 'cancelled', finished_at = postfleet_now(), published_until = NULL
WHERE id = ANY(:ids) AND state = ANY(:sources) RETURNING id, queue
""")
CANCEL_MAIL = text("""
UPDATE emails SET status = 'cancelled', finished_at = postfleet_now()
WHERE job_id = ANY(:ids) AND status IN ('queued', 'sending', 'deferred')
""")
REQUEST_CANCEL = text("""
UPDATE jobs SET cancel_requested = true WHERE id = ANY(:ids) AND state = 'executing' RETURNING id
""")

DISCARD = text("""
UPDATE jobs SET state = 'discarded', finished_at = postfleet_now(), published_until = NULL,
    last_error = coalesce(last_error, 'discarded by a person')
WHERE id = ANY(:ids) AND state = ANY(:sources) RETURNING id, queue
""")
DISCARD_MAIL = text("""
UPDATE emails SET status = 'failed', finished_at = postfleet_now(), reply = coalesce(reply, 'discarded by a person')
WHERE job_id = ANY(:ids) AND status IN ('queued', 'sending', 'deferred')
""")

REQUESTED = "cancel requested"


@dataclass(frozen=True, slots=True)
class Moved:
    """What became of one job that a person named. `result` is its new state, or why nothing changed."""

    id: int
    was: str | None
    result: str
    changed: bool


def retry(connection: Connection, ids: Sequence[int]) -> list[Moved]:
    """Run discarded and cancelled jobs again, now, with all their attempts; failed attempts stay on record."""
    locked = _locked(connection, ids)
    may = (sources(State.AVAILABLE) & FINAL) - {State.COMPLETED}
    rows = connection.execute(RETRY, {"ids": list(locked), "sources": sorted(may)}).all()
    done = {row.id for row in rows}
    connection.execute(REQUEUE_MAIL, {"ids": list(done)})
    if rows:
        notify(connection, sorted({row.queue for row in rows}))
    return [
        _moved(job_id, locked, State.AVAILABLE, done, may, "another job has its unique key")
        for job_id in dict.fromkeys(ids)
    ]


def cancel(connection: Connection, ids: Sequence[int]) -> list[Moved]:
    """Cancel what waits. A running job is asked to stop: it is cancelled unless this run of it ends well."""
    locked = _locked(connection, ids)
    requested = set(connection.execute(REQUEST_CANCEL, {"ids": list(locked)}).scalars())
    done = _apply(connection, CANCEL, CANCEL_MAIL, list(locked), WAITING)
    return [
        Moved(job_id, State.EXECUTING, REQUESTED, changed=True)
        if job_id in requested
        else _moved(job_id, locked, State.CANCELLED, done, WAITING)
        for job_id in dict.fromkeys(ids)
    ]


def discard(connection: Connection, ids: Sequence[int]) -> list[Moved]:
    """Make waiting jobs dead letters; they can be retried later. A running one must be cancelled instead."""
    locked = _locked(connection, ids)
    may = sources(State.DISCARDED) & WAITING
    done = _apply(connection, DISCARD, DISCARD_MAIL, list(locked), may)
    return [_moved(job_id, locked, State.DISCARDED, done, may) for job_id in dict.fromkeys(ids)]


def find(connection: Connection, state: State, queue: str | None, *, after: int = 0, limit: int = 1_000) -> list[int]:
    """Ids above `after` of jobs in `state` (on `queue`, or any), ascending: one page for a move of many."""
    parameters = {"state": state, "queue": queue, "after": after, "limit": limit}
    return list(connection.execute(FIND, parameters).scalars())


def cancel_batch(connection: Connection, batch: str, *, limit: int = 5_000) -> int:
    """Cancel up to `limit` unfinished jobs of a batch; returns how many. Call it until that is 0."""
    ids = list(connection.execute(FIND_BATCH, {"batch": batch, "limit": limit}).scalars())
    return sum(moved.changed for moved in cancel(connection, ids))


def _locked(connection: Connection, ids: Sequence[int]) -> dict[int, Row[tuple[int, str, str]]]:
    return {row.id: row for row in connection.execute(LOCK, {"ids": list(ids)})}


def _apply(
    connection: Connection, move: TextClause, mail: TextClause, ids: list[int], may: Collection[State]
) -> set[int]:
    done = {row.id for row in connection.execute(move, {"ids": ids, "sources": sorted(may)})}
    connection.execute(mail, {"ids": list(done)})
    return done


def _moved(
    job_id: int,
    locked: dict[int, Row[tuple[int, str, str]]],
    to: State,
    done: Collection[int],
    may: Collection[State],
    otherwise: str = "unchanged",
) -> Moved:
    row = locked.get(job_id)
    if row is None:
        return Moved(job_id, None, "no such job", changed=False)
    if job_id in done:
        return Moved(job_id, row.state, to, changed=True)
    if row.state not in may:
        otherwise = f"is {row.state}, cannot become {to}"
    return Moved(job_id, row.state, otherwise, changed=False)
