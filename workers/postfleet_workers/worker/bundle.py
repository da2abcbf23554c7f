"""A claimed bundle while it runs: what its job type sees of it, and what has come of its jobs so far.

One thread runs it; another may give it up when the process must end. `taken` is held by whoever writes outcomes; once
`lost`, nothing more is noted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime

from postfleet_workers import clock, ledger
from postfleet_workers.jobs import Job, JobType, Trace
from postfleet_workers.journal import ClaimJournal, Traces


class Bundle:
    """The `jobs.Run` of one claim.

    Args:
        claim: id of the claim, also of its journal.
        epoch: the epoch of Redis in which it was claimed.
        job_type: of every job in it.
        jobs: as claimed, in order.
        worker: who claimed it.
        journal: where beginnings, dots and replies are noted.
        now: the database's clock.
        halted: whether nothing more may begin.
        patience_seconds: after so long it is overdue.
    """

    def __init__(
        self,
        *,
        claim: str,
        epoch: str,
        job_type: JobType,
        jobs: Sequence[Job],
        worker: str,
        journal: ClaimJournal,
        now: Callable[[], datetime],
        halted: Callable[[], bool],
        patience_seconds: float,
    ) -> None:
        self.claim = claim
        self.epoch = epoch
        self.job_type = job_type
        self.worker = worker
        self.now = now
        self.halted = halted
        self.started = clock.monotonic()
        self.taken = threading.RLock()
        self.lost = False
        self._patience_seconds = patience_seconds
        self._journal = journal
        self._unsettled = {job.id: job for job in jobs}
        self._results: dict[int, ledger.Result] = {}
        self._begun: set[int] = set()
        self._dotted: set[int] = set()
        self._replies: dict[int, str] = {}
        self._untold: dict[int, str] = {}
        self._lot: list[Job] = []
        self._took: dict[int, float] = {}

    def stopping(self) -> bool:
        """See `jobs.Run`."""
        return self.halted() or self.overdue()

    def overdue(self) -> bool:
        """Whether it has run for so long that its rest is better off elsewhere."""
        return clock.monotonic() - self.started > self._patience_seconds

    def begun(self) -> Sequence[Job]:
        """See `jobs.Run`."""
        return tuple(self._lot)

    def dot(self, *jobs: Job) -> bool:
        """See `jobs.Run`."""
        ids = [job.id for job in jobs]
        self._dotted.update(ids)  # before it is known: in doubt the dots went out
        granted = self._journal.dot(self.claim, *ids)
        if not granted:
            self._dotted.difference_update(ids)
        return granted

    def reply(self, job: Job, detail: str) -> None:
        """See `jobs.Run`."""
        self._replies[job.id] = self._untold[job.id] = detail  # goes with the next beginning, or by `tell`

    def took(self, job: Job, seconds: float) -> None:
        """See `jobs.Run`."""
        self._took[job.id] = seconds

    def held_seconds(self, job: Job) -> float | None:
        """How long the job held its place, if its type said so."""
        return self._took.get(job.id)

    def tell(self) -> None:
        """See `jobs.Run`.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        if self._untold:
            self._journal.advance(self.claim, self._untold, {})
            self._untold = {}

    def begin(self, ended: Mapping[int, str], jobs: Sequence[Job]) -> None:
        """Journal in one how the jobs before ended, in words by id, and that these begin.

        Raises:
            PipeUnavailable: Redis does not answer; the jobs may not begin.
        """
        now = self.now().timestamp()
        self._journal.advance(self.claim, {**ended, **self._untold}, {job.id: now for job in jobs})
        self._untold = {}
        self._begun.update(job.id for job in jobs)
        self._lot = list(jobs)

    def note(self, result: ledger.Result) -> None:
        """Keep an outcome to be written; ignored once the bundle was given up."""
        with self.taken:
            if not self.lost:
                self._results[result.job.id] = result

    def noted(self) -> list[ledger.Result]:
        """Outcomes that are not written yet."""
        return list(self._results.values())

    def forget(self, job_id: int) -> None:
        """The job's outcome is written, or never will be."""
        self._results.pop(job_id, None)
        self._unsettled.pop(job_id, None)

    def unbegun(self) -> list[Job]:
        """Jobs that nothing was done for."""
        return [job for job in self._unsettled.values() if job.id not in self._begun]

    def open_jobs(self) -> list[Job]:
        """Jobs that have begun and have no outcome yet."""
        return [job for job in self._unsettled.values() if job.id in self._begun and job.id not in self._results]

    def trace(self, job: Job, traces: Traces | None = None) -> Trace:
        """How far a job got: by its reply, else as the journal knows it, or as this process remembers where it may not.

        Replies are noted late, see `reply`.
        """
        if job.id in self._replies:
            return Trace("reply", self._replies[job.id])
        if traces is not None and traces.complete:
            return traces.of(job.id)
        return Trace("dot" if job.id in self._dotted else "begun")
