"""`campaign.expand`: turns a started campaign into mail. Killed anywhere, the next run goes on where it was."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Engine

from postfleet_workers.actors import Services
from postfleet_workers.campaigns import DEFAULT_QUEUE
from postfleet_workers.campaigns.control import EXPAND
from postfleet_workers.campaigns.expansion import CHUNK, Step, expand_chunk
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.jobs import Done, HandBack, Job, JobType, Outcome, Run, Snooze, each
from postfleet_workers.store.session import transaction

TIMEOUT_SECONDS = 3600.0
STORE_AWAY_SECONDS = 5.0


def job_types(services: Services) -> Iterable[JobType]:
    """What this module offers."""
    return [campaign_expand(services.engine)]


def campaign_expand(engine: Engine, chunk: int = CHUNK) -> JobType:
    """The job type. `args` is `{"campaign_id": …}`; `chunk` contacts are expanded per transaction."""

    def perform(job: Job, run: Run) -> Outcome:
        while not run.stopping():
            try:
                with transaction(engine) as connection:
                    step = expand_chunk(connection, job.args["campaign_id"], chunk).step
            except StoreUnavailable as error:
                return Snooze(STORE_AWAY_SECONDS, str(error), kind="postgresql_away")
            match step:
                case Step.FINISHED | Step.STOPPED:
                    return Done()
                case Step.HELD:
                    return HandBack("the campaign is paused")
                case Step.MADE:
                    continue
        return HandBack("the worker stops; the rest is expanded elsewhere")

    return JobType(EXPAND, DEFAULT_QUEUE, each(perform), timeout_seconds=TIMEOUT_SECONDS)
