"""What a job is, which kinds of job there are, and what can come of one. Values only, no I/O.

A job type's `perform` gets a bundle (1 to `bundle_size` jobs of one type and route) and yields one outcome per job,
in order, each at the moment it is known. The runner marks a job as begun before it asks for its outcome, so that a
crash is blamed on the right job, and stops asking when the worker must shut down: what was not asked for is handed
back unbegun. Of a type with `at_once` above 1 it marks so many at a time: perform may work on all of these together
(`Run.begun`), and yields their outcomes one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from postfleet_workers.errors import UnknownJobType

FIRST_QUEUE = "priority-high"


@dataclass(frozen=True, slots=True)
class Job:
    """One claimed row of `jobs`, as a job type sees it. Times are the database's."""

    id: int
    type: str
    queue: str
    tenant: str
    route: str
    args: Mapping[str, Any]
    attempt: int
    max_attempts: int
    snoozes: int
    publication: int
    run_at: datetime
    expires_at: datetime | None
    claimed_at: datetime
    claim: str
    claim_epoch: str
    strikes: int = 0


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job to enqueue. `run_at=None` means now; `unique_key` is unique per type among jobs not cancelled or discarded.

    `batch` groups jobs that are paused and counted together (`campaign:7`); `route` groups jobs that may share a bundle
    and a limit (for mail: the sending node). Lower `priority` runs first within its tenant.
    """

    type: str
    queue: str
    args: Mapping[str, Any] = field(default_factory=dict)
    tenant: str = "default"
    batch: str = ""
    route: str = ""
    priority: int = 0
    unique_key: str | None = None
    run_at: datetime | None = None
    expires_at: datetime | None = None
    max_attempts: int = 3


@dataclass(frozen=True, slots=True)
class Done:
    """The job did what it is for. `record` is handed to the type's `settle`."""

    record: Any = None


@dataclass(frozen=True, slots=True)
class Transient:
    """It failed in a way that another attempt may cure; uses up one attempt."""

    error: str
    record: Any = None


@dataclass(frozen=True, slots=True)
class Permanent:
    """It can never work: discarded at once, with its error."""

    error: str
    record: Any = None


@dataclass(frozen=True, slots=True)
class Snooze:
    """Not now; try again after `seconds`. Uses up no attempt. `kind` is a word of few, by which it is counted.

    `worked`: this took what the job takes, and only its end was put off; it counts for how long such jobs take.
    """

    seconds: float
    reason: str
    record: Any = None
    to_retry_queue: bool = False
    kind: str = "job"
    worked: bool = False


@dataclass(frozen=True, slots=True)
class HandBack:
    """Not begun by this worker: back to `available` at once, no attempt used, no trace but the publication.

    `route`: it belongs to another group than it was published with; None leaves it.
    """

    reason: str
    route: str | None = None


Outcome = Done | Transient | Permanent | Snooze | HandBack


@dataclass(frozen=True, slots=True)
class Settled:
    """A job, its outcome and whether the ledger accepted it (a fenced-out outcome changes no state)."""

    job: Job
    outcome: Outcome
    accepted: bool
    state: str
    started_at: datetime | None
    worker: str


@dataclass(frozen=True, slots=True)
class Trace:
    """What the journal knows of one job of a claim that its worker did not settle.

    `phase` is '' (never begun), 'begun', 'dot' (the final dot may have gone out) or 'reply' (`detail` is the reply).
    `complete` is False when the journal may have lost entries (another epoch): then '' proves nothing.
    """

    phase: str = ""
    detail: str = ""
    complete: bool = True


class Run(Protocol):
    """What the runner offers to a job type while a bundle runs."""

    worker: str

    def stopping(self) -> bool:
        """Whether no further job may begin (shutdown, lost lease, overdue bundle)."""

    def begun(self) -> Sequence[Job]:
        """The jobs that began together last: the one whose outcome was asked for then, and those behind it."""

    def dot(self, *jobs: Job) -> bool:
        """Journal 'their final dots go out now'. False: the claim is no longer ours, do not send."""

    def reply(self, job: Job, detail: str) -> None:
        """Journal the server's answer to the final dot (the classify input, as text), with what is journalled next."""

    def tell(self) -> None:
        """Journal the answers now: this will take a while."""

    def took(self, job: Job, seconds: float) -> None:
        """How long the job itself took, where several that began together shared the time: so long it held a place."""

    def now(self) -> datetime:
        """The database's clock, carried forward by this process' monotonic one."""


class Perform(Protocol):
    """Runs a bundle: yields one outcome per job, in the order of `jobs`."""

    def __call__(self, jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        """See the module's first lines."""


@dataclass(frozen=True, slots=True)
class JobType:
    """A registered kind of job.

    Attributes:
        name: `email.send`; also the Dramatiq actor's name.
        queue: default queue.
        perform: runs a bundle.
        timeout_seconds: this long after its claim a job counts as stalled and is re-queued.
        bundle_size: most jobs of one message; the relay sizes a bundle to about a second of measured work.
        at_once: most jobs of a bundle that begin together. A worker that dies leaves so many for each of its threads.
        retry_queue: where a failed or deferred job waits; jobs of the first queue stay where they are.
        settle: called in the transaction that writes the outcomes, with every settled job of the bundle.
        recover: what became of a job whose worker is gone, from its journal; None puts it back to be run again.
        close: releases what the type holds in this process (connections).
    """

    name: str
    queue: str
    perform: Perform
    timeout_seconds: float = 1800.0
    bundle_size: int = 1
    at_once: int = 1
    retry_queue: str | None = None
    settle: Callable[[Any, Sequence[Settled]], None] | None = None
    recover: Callable[[Job, Trace], Outcome | None] | None = None
    close: Callable[[], None] | None = None


class Registry:
    """The job types that this process knows, by name."""

    def __init__(self, types: Iterable[JobType] = ()) -> None:
        self._types = {t.name: t for t in types}

    def __iter__(self) -> Iterator[JobType]:
        return iter(self._types.values())

    def add(self, job_type: JobType) -> None:
        """Register one more."""
        self._types[job_type.name] = job_type

    def find(self, name: str) -> JobType | None:
        """The type of that name, if known."""
        return self._types.get(name)

    def close(self) -> None:
        """Release what the types hold in this process."""
        for job_type in self:
            if job_type.close:
                job_type.close()

    def get(self, name: str) -> JobType:
        """The type of that name.

        Raises:
            UnknownJobType: none is registered.
        """
        try:
            return self._types[name]
        except KeyError:
            raise UnknownJobType(f"no job type {name!r} is registered here") from None


def each(perform_one: Callable[[Job, Run], Outcome]) -> Perform:
    """Make a `perform` of a function that handles one job."""

    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        for job in jobs:
            yield perform_one(job, run)

    return perform
