"""From an outcome to the row's next state. Pure: jitter and settings are arguments.

Attempts are used up by `Transient` alone. A hand-back, a snooze and a rescue give the attempt back that the claim took.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postfleet_workers import backoff
from postfleet_workers.jobs import (
    FIRST_QUEUE,
    Done,
    HandBack,
    Job,
    JobType,
    Outcome,
    Permanent,
    Snooze,
    Trace,
    Transient,
)
from postfleet_workers.states import State

MAX_STRIKES = 3
ERROR_LENGTH = 2000
LONGEST_SNOOZE_SECONDS = 366 * 86_400.0
ENDED_WELL = "done"
ENDED = "over"
# NUL and halves of surrogate pairs (undecodable bytes of a file name or of a server's reply) are refused by jsonb.
UNKEEPABLE = re.compile("[\x00\ud800-\udfff]")


def printable(error: str) -> str:
    """An error as PostgreSQL can keep it: bounded, and without what is no text there."""
    return UNKEEPABLE.sub("\ufffd", error)[:ERROR_LENGTH]


@dataclass(frozen=True, slots=True)
class Rescued:
    """Its worker is gone (or stuck) and nothing is known to have happened: back it goes. `struck`: it had begun."""

    struck: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Move:
    """What the outcome does to the row. None leaves its time (`delay_seconds`), its queue, its route."""

    state: State
    delay_seconds: float | None = None
    queue: str | None = None
    route: str | None = None
    gives_attempt_back: bool = False
    snoozed: bool = False
    strikes: int = 0
    error: str | None = None
    failed: bool = False


def move(job: Job, job_type: JobType | None, outcome: Outcome | Rescued, base_seconds: float, jitter: float) -> Move:
    """The row's next state. `job_type=None` (unknown here) keeps the job's own queue."""
    retry_queue = job_type.retry_queue if job_type and job.queue != FIRST_QUEUE else None
    match outcome:
        case Done():
            return Move(State.COMPLETED)
        case Permanent(error=error):
            return Move(State.DISCARDED, error=printable(error), failed=True)
        case Transient(error=error) if job.attempt >= job.max_attempts:
            return Move(State.DISCARDED, error=printable(error), failed=True)
        case Transient(error=error):
            delay = backoff.exponential(job.attempt, base_seconds, jitter)
            return Move(State.RETRYABLE, delay, retry_queue, error=printable(error), failed=True)
        case Snooze(seconds=seconds, reason=reason, to_retry_queue=to_retry):
            return Move(
                State.SCHEDULED,
                min(max(0.0, seconds), LONGEST_SNOOZE_SECONDS),
                retry_queue if to_retry else None,
                gives_attempt_back=True,
                snoozed=True,
                error=printable(reason),
            )
        case HandBack(route=route):
            return Move(State.AVAILABLE, route=route, gives_attempt_back=True, strikes=job.strikes)
        case Rescued(struck=struck, reason=reason):
            strikes = job.strikes + struck
            if strikes >= MAX_STRIKES:
                error = f"poison: {reason}, for the {strikes}rd time while this job ran"
                return Move(State.DISCARDED, strikes=strikes, error=error, failed=True)
            return Move(State.AVAILABLE, gives_attempt_back=True, strikes=strikes, error=reason if struck else None)


def recover(job: Job, job_type: JobType | None, trace: Trace, reason: str) -> Outcome | Rescued:
    """What became of a job that its worker never settled: as its type reads the journal, else back to the queue."""
    if job_type and job_type.recover:
        outcome = job_type.recover(job, trace)
    else:
        outcome = Done() if (trace.phase, trace.detail) == ("reply", ENDED_WELL) else None
    return outcome if outcome is not None else Rescued(struck=trace.phase == "begun", reason=reason)


def put_back(outcome: Outcome) -> bool:
    """Whether the job was not done, nor failed: it says nothing about how long such jobs take."""
    match outcome:
        case Snooze(worked=worked):
            return not worked
        case _:
            return isinstance(outcome, HandBack)


def last_word(job_type: JobType, outcome: Outcome) -> str | None:
    """What the journal notes when a job has ended, for `recover`; None for a type that notes its own replies.

    Outcomes are written a bundle at a time. With this note a job that is done but not yet written is not run again,
    and one that failed is not taken for the killer of its worker.
    """
    if job_type.recover:
        return None
    return ENDED_WELL if isinstance(outcome, Done) and job_type.settle is None else ENDED
