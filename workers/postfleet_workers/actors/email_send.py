"""`email.send`: deliver emails over SMTP. Thin: the work is in `mail/`."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from postfleet_workers.jobs import Job, JobType, Outcome, Run, Trace
from postfleet_workers.mail.delivery import Delivery, Deps
from postfleet_workers.mail.outbox import JOB_TYPE
from postfleet_workers.mail.outcome import History, outcome_of_trace
from postfleet_workers.mail.settlement import settle

BUNDLE_SIZE = 50


def email_send(deps: Deps) -> JobType:
    """The job type. Its jobs' route is the sending node; each has one row in `emails`."""

    def perform(jobs: Sequence[Job], run: Run) -> Generator[Outcome, None, None]:
        return Delivery(deps, jobs, run).outcomes()

    def recover(job: Job, trace: Trace) -> Outcome | None:
        return outcome_of_trace(trace, job.route, History(deferrals=job.snoozes, jitter=deps.jitter()), deps.schedule)

    return JobType(
        name=JOB_TYPE,
        queue="campaign-standard",
        perform=perform,
        max_attempts=3,
        bundle_size=BUNDLE_SIZE,
        retry_queue="retry",
        settle=settle,
        recover=recover,
    )
