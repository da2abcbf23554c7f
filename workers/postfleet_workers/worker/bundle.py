"""A claimed bundle while it runs: what its job type sees of it, and what has come of its jobs so far.

One thread runs it; another may give it up when the process must end. `taken` is held by whoever writes outcomes; once
`lost`, nothing more is noted.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
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
    ) -> None:
        self.claim = claim
        self.epoch = epoch
        self.job_type = job_type
        self.worker = worker
        self.now = now
        self.stopping = halted
        self.started = clock.monotonic()
        self.taken = threading.RLock()
        self.lost = False
        self._journal = journal
        self._unsettled = {job.id: job for job in jobs}
        self._results: dict[int, ledger.Result] = {}
        self._begun: set[int] = set()
        self._dotted: set[int] = set()
        self._replies: dict[int, str] = {}
        self._said: tuple[int, str] | None = None

    def dot(self, job: Job) -> bool:
        """See `jobs.Run`."""
        self._dotted.add(job.id)  # before it is known: in doubt the dot went out
        granted = self._journal.dot(self.claim, job.id)
        if not granted:
            self._dotted.discard(job.id)
        return granted

    def reply(self, job: Job, detail: str) -> None:
        """See `jobs.Run`."""
        self._replies[job.id] = detail
        self._said = (job.id, detail)  # goes with the next beginning, or by `tell`

    def tell(self) -> None:
        """Journal what was replied last, where no other job begins right now.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        said, self._said = self._said, None
        if said:
            self._journal.reply(self.claim, *said)

    def begin(self, ended: tuple[int, str] | None, job: Job) -> None:
        """Journal in one how the job before ended and that this one begins.

        Raises:
            PipeUnavailable: Redis does not answer; the job may not begin.
        """
        said, self._said = self._said or ended, None
        self._journal.advance(self.claim, said, (job.id, self.now().timestamp()))
        self._begun.add(job.id)

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
