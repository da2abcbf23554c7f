"""Bring back what a dead or stuck worker left executing.

The claim is revoked in the journal first, so that its worker, should it still live, can no longer send; then the
journal says what had happened, each job's type reads that, and the rows are written like any other outcome.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import groupby

import structlog
from sqlalchemy import Connection

from postfleet_workers import ledger, outcomes
from postfleet_workers.errors import TransientError
from postfleet_workers.jobs import Registry, Settled
from postfleet_workers.journal import ClaimJournal
from postfleet_workers.relay import rows
from postfleet_workers.store.session import store_errors

log = structlog.get_logger(__name__)
DEFAULT_TIMEOUT_SECONDS = 1800.0


def rescue(
    connection: Connection, journal: ClaimJournal, registry: Registry, queues: list[str], base_seconds: float
) -> list[Settled]:
    """Rescue up to a few hundred jobs in the caller's transaction.

    A claim whose outcomes cannot be written (its type's `settle` raises) is logged and left for the next time: it must
    not keep the others.

    Raises:
        PipeUnavailable: the journal is out of reach; nothing was changed.
        StoreUnavailable: PostgreSQL went away; nothing was changed.
    """
    timeouts = json.dumps({job_type.name: job_type.timeout_seconds for job_type in registry})
    settled: list[Settled] = []
    found = rows.abandoned(connection, queues, timeouts, DEFAULT_TIMEOUT_SECONDS)
    for claim, group in groupby(found, key=lambda a: a.job.claim):
        lost = list(group)
        try:
            with store_errors(), connection.begin_nested():
                settled += _rescue_claim(connection, journal, registry, lost, base_seconds)
        except TransientError:
            raise
        except Exception:
            log.exception("rescue_failed", worker=lost[0].worker, claim=claim, jobs=len(lost))
    return settled


def _rescue_claim(
    connection: Connection,
    journal: ClaimJournal,
    registry: Registry,
    lost: Sequence[rows.Abandoned],
    base_seconds: float,
) -> list[Settled]:
    worker, claim = lost[0].worker, lost[0].job.claim
    traces = journal.revoke(claim, lost[0].job.claim_epoch)
    reason = "its worker died" if lost[0].dead else "it ran past its type's time limit"
    results = []
    for one in lost:
        job_type = registry.find(one.job.type)
        outcome = outcomes.recover(one.job, job_type, traces.of(one.job.id), reason)
        # Spreads retries; nothing secret hangs on it.
        move = outcomes.move(one.job, job_type, outcome, base_seconds, random.random())  # noqa: S311
        results.append(ledger.Result(one.job, outcome, move))
    settled = ledger.settle(connection, results, worker=worker, registry=registry)
    log.warning("rescued", worker=worker, claim=claim, jobs=len(lost), reason=reason)
    return settled


def expire(connection: Connection, registry: Registry, queues: list[str], most: int) -> int:
    """Cancel up to `most` jobs that may not run any more, and let their types know; how many.

    A type that raises keeps nobody else.
    """
    jobs = rows.expire(connection, queues, most)
    for job_type in registry:
        own = [job for job in jobs if job.type == job_type.name]
        if not own or not job_type.settle:
            continue
        try:
            with store_errors(), connection.begin_nested():
                job_type.settle(connection, [ledger.expired(job) for job in own])
        except TransientError:
            raise
        except Exception:
            log.exception("expiry_not_settled", type=job_type.name, jobs=len(own))
    return len(jobs)
