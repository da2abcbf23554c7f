"""The jobs table as the workers and the relay use it: claim a bundle, write its outcomes. SQL, named and explained.

Every write is a compare-and-set on `publication` and on the claiming worker: a message that is stale claims nothing, an
outcome that comes too late changes no state and is kept as a fenced attempt.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from postfleet_workers.jobs import Job, Outcome, Permanent, Registry, Settled
from postfleet_workers.outcomes import Move, Rescued
from postfleet_workers.states import FINAL, State
from postfleet_workers.store.arrays import plain, texts

# In the order of `Job`'s fields.
COLUMNS = """j.id, j.type, j.queue, j.tenant, j.route, j.args, j.attempt, j.max_attempts, j.snoozes, j.publication,
    j.run_at, j.expires_at, j.claimed_at, j.claim, j.claim_epoch, j.strikes"""

# Rows are looked up by their ids and by nothing else: the small indexes on `state` would be read whole, with all that
# other workers hold and the entries of rows that have long moved on. `|| ''` keeps the planner from them. The clock is
# read once, not for every row. And no row is joined to its publication: the planner takes the rows for one or two, and
# would look through the whole bundle for each.
OF_THIS_OFFER = """j.id = ANY(CAST(:ids AS bigint[]))
  AND j.publication = (CAST(:publications AS integer[]))[array_position(CAST(:ids AS bigint[]), j.id)]"""

# Only what this publication offers, and only while its worker's lease holds; nothing expired, nothing on hold. Asking
# again with the same claim, after a commit whose answer was lost, gives what it has.
CLAIM = text(f"""
UPDATE jobs j SET state = 'executing', attempt = j.attempt + CASE j.state WHEN 'available' THEN 1 ELSE 0 END,
    claimed_by = :worker, claim = :claim, claim_epoch = coalesce(j.claim_epoch, :epoch),
    claimed_at = coalesce(j.claimed_at, (SELECT postfleet_now())), published_until = NULL
WHERE {OF_THIS_OFFER}
  AND (j.state || '' = 'executing' AND j.claim = :claim
       OR j.state || '' = 'available' AND j.published_until IS NOT NULL
          AND (j.expires_at IS NULL OR j.expires_at > (SELECT postfleet_now()))
          AND j.batch NOT IN (SELECT key FROM holds WHERE kind = 'batch')
          AND j.queue NOT IN (SELECT key FROM holds WHERE kind = 'queue')
          AND EXISTS (SELECT FROM workers w
                      WHERE w.id = :worker AND w.lease_until > postfleet_now() AND w.stopped_at IS NULL))
RETURNING {COLUMNS}
""")  # noqa: S608 - COLUMNS is a constant

# Offered to this process but not begun: the next relay tick may publish it again.
UNPUBLISH = text(f"""
UPDATE jobs j SET published_until = NULL WHERE {OF_THIS_OFFER} AND j.state || '' = 'available'
""")  # noqa: S608 - a constant

POSTPONE = text(f"""
UPDATE jobs j SET published_until = NULL, state = 'scheduled', last_error = :error,
    run_at = postfleet_now() + make_interval(secs => :seconds)
WHERE {OF_THIS_OFFER} AND j.state || '' = 'available'
""")  # noqa: S608 - a constant

# The offer ends here: without `published_until` a stale message claims nothing until the row is published again.
# Most jobs are simply done. Theirs is a statement of its own, with nothing to decide for each row.
COMPLETE = text(f"""
UPDATE jobs j SET state = 'completed', strikes = 0, finished_at = (SELECT postfleet_now()),
    published_until = NULL, claimed_by = NULL, claim = NULL, claim_epoch = NULL,
    claimed_at = NULL, cancel_requested = false
WHERE {OF_THIS_OFFER} AND j.state || '' = 'executing'
  AND j.claim = (CAST(:claims AS text[]))[array_position(CAST(:ids AS bigint[]), j.id)]
RETURNING j.id, j.state
""")  # noqa: S608 - a constant
SETTLE = text("""
UPDATE jobs j SET
    state = CASE WHEN j.cancel_requested AND o.state IN ('available', 'scheduled', 'retryable')
                 THEN 'cancelled' ELSE o.state END,
    run_at = CASE WHEN o.delay_seconds IS NULL THEN j.run_at
                  ELSE (SELECT postfleet_now()) + make_interval(secs => o.delay_seconds) END,
    queue = coalesce(o.queue, j.queue),
    route = coalesce(o.route, j.route),
    attempt = j.attempt - CASE WHEN o.gives_attempt_back THEN 1 ELSE 0 END,
    snoozes = j.snoozes + CASE WHEN o.snoozed THEN 1 ELSE 0 END,
    strikes = o.strikes,
    last_error = coalesce(o.error, j.last_error),
    finished_at = CASE WHEN o.final OR j.cancel_requested AND o.state IN ('available', 'scheduled', 'retryable')
                       THEN (SELECT postfleet_now()) END,
    published_until = NULL, claimed_by = NULL, claim = NULL, claim_epoch = NULL,
    claimed_at = NULL, cancel_requested = false
FROM jsonb_to_recordset(CAST(:outcomes AS jsonb)) AS o(
    id bigint, publication integer, claim text, state text, delay_seconds float8, queue text, route text,
    gives_attempt_back boolean, snoozed boolean, strikes smallint, error text, final boolean)
WHERE j.id = o.id AND j.id = ANY(CAST(:ids AS bigint[])) AND j.publication = o.publication
  AND j.state || '' = 'executing' AND j.claim = o.claim
RETURNING j.id, j.state
""")

ADD_ATTEMPTS = text("""
INSERT INTO job_attempts (job_id, attempt, publication, worker, outcome, error, fenced, started_at, finished_at)
SELECT a.job_id, a.attempt, a.publication, a.worker, a.outcome, a.error, a.fenced, a.started_at, postfleet_now()
FROM jsonb_to_recordset(CAST(:attempts AS jsonb)) AS a(
    job_id bigint, attempt smallint, publication integer, worker text, outcome text, error text, fenced boolean,
    started_at timestamptz)
WHERE EXISTS (SELECT FROM jobs WHERE jobs.id = a.job_id)
""")


@dataclass(frozen=True, slots=True)
class Result:
    """A job's outcome and what it does to the row."""

    job: Job
    outcome: Outcome | Rescued
    move: Move
    started_at: datetime | None = None


Items = Sequence[tuple[int, int]]
COMPLETED = Move(State.COMPLETED)


def as_job(row: Row[Any]) -> Job:
    """A row of `COLUMNS` as a value."""
    values: Sequence[Any] = row
    return Job(*values)


def split(items: Items) -> dict[str, str]:
    """Pairs of (job id, publication) as the arrays `:ids` and `:publications`."""
    return {"ids": plain([i for i, _ in items]), "publications": plain([p for _, p in items])}


def claim(connection: Connection, items: Items, *, worker: str, claim: str, epoch: str) -> list[Job]:
    """Claim what is still ours of a bundle of (job id, publication); in the bundle's order."""
    rows = connection.execute(CLAIM, {**split(items), "worker": worker, "claim": claim, "epoch": epoch}).all()
    jobs = {job.id: job for job in map(as_job, rows)}
    return [jobs[job_id] for job_id, _ in items if job_id in jobs]


def unpublish(connection: Connection, items: Items) -> None:
    """Give back a bundle that was not claimed."""
    connection.execute(UNPUBLISH, split(items))


def postpone(connection: Connection, items: Items, seconds: float, error: str) -> None:
    """Take back the offer of a bundle that nobody here can run; no attempt is used."""
    connection.execute(POSTPONE, {**split(items), "seconds": seconds, "error": error})


def settle(connection: Connection, results: Sequence[Result], *, worker: str, registry: Registry) -> list[Settled]:
    """Write the outcomes of one claim (or of several, in a rescue) and call each type's own `settle` with them."""
    states = _written(connection, results)
    failed = [_attempt(r, worker, fenced=r.job.id not in states) for r in results]
    if attempts := [attempt for attempt in failed if attempt]:
        connection.execute(ADD_ATTEMPTS, {"attempts": json.dumps(attempts)})
    put_back = {
        r.job.id
        for r in results
        if isinstance(r.outcome, Rescued) and not r.move.failed and states.get(r.job.id) != State.CANCELLED
    }
    settled = [
        Settled(
            job=r.job,
            outcome=Permanent(r.outcome.reason) if isinstance(r.outcome, Rescued) else r.outcome,
            accepted=r.job.id in states,
            state=states.get(r.job.id, ""),
            started_at=r.started_at,
            worker=worker,
        )
        for r in results
    ]
    for job_type in registry:
        own = [s for s in settled if s.job.type == job_type.name and s.job.id not in put_back]
        hook: Callable[[Any, Sequence[Settled]], None] | None = job_type.settle
        if own and hook:
            hook(connection, own)
    return settled


def _written(connection: Connection, results: Sequence[Result]) -> dict[int, str]:
    """Write the moves; the new states of the jobs whose outcome was still theirs to write."""
    done = [r for r in results if r.move == COMPLETED]
    others = [r for r in results if r.move != COMPLETED]
    states: dict[int, str] = {}
    if done:
        given = {
            **split([(r.job.id, r.job.publication) for r in done]),
            "claims": texts([r.job.claim for r in done]),
        }
        states |= {row[0]: row[1] for row in connection.execute(COMPLETE, given)}
    if others:
        given = {"outcomes": json.dumps([_moved(r) for r in others]), "ids": plain([r.job.id for r in others])}
        states |= {row[0]: row[1] for row in connection.execute(SETTLE, given)}
    return states


def _moved(result: Result) -> dict[str, Any]:
    """The outcome as `SETTLE` wants it."""
    job, move = result.job, result.move
    return {
        "id": job.id, "publication": job.publication, "claim": job.claim, "state": move.state,
        "delay_seconds": move.delay_seconds, "queue": move.queue, "route": move.route,
        "gives_attempt_back": move.gives_attempt_back, "snoozed": move.snoozed, "strikes": move.strikes,
        "error": move.error, "final": move.state in FINAL,
    }  # fmt: skip


def _attempt(result: Result, worker: str, *, fenced: bool) -> dict[str, Any] | None:
    """The row of `job_attempts`: each failure, and every outcome that came too late."""
    if not (result.move.failed or fenced):
        return None
    return {
        "job_id": result.job.id, "attempt": result.job.attempt, "publication": result.job.publication, "worker": worker,
        "outcome": type(result.outcome).__name__.lower(), "error": result.move.error, "fenced": fenced,
        "started_at": result.started_at and result.started_at.isoformat(),
    }  # fmt: skip


def expired(job: Job) -> Settled:
    """The settlement of a job whose `expires_at` passed before it could run."""
    return Settled(
        job, Permanent("expired before it could run"), accepted=True, state=State.CANCELLED, started_at=None, worker=""
    )
