"""Run one bundle: claim its rows, perform them one by one, settle their outcomes. Thin: each step lives elsewhere.

What goes wrong on the way, and what then happens:

    PostgreSQL away at the claim    wait for it; nothing was begun. A shutdown leaves it to the publishing lease.
    PostgreSQL away at the outcome  wait for it; the journal holds what happened.
    Redis away at a begin           the unbegun rest is handed back; what has begun is settled by its row.
    perform raises                  a failed attempt of the job that was running (`unknown`, if its dot had gone out).
    stopping, overdue, lease gone   the unbegun rest is handed back, no attempt used.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import takewhile

import structlog
from sqlalchemy import Engine

from postfleet_workers import clock, ledger, outcomes
from postfleet_workers.errors import PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import HandBack, Job, JobType, Outcome, Registry, Transient
from postfleet_workers.journal import ClaimJournal
from postfleet_workers.metrics.worker import Ran, WorkerMetrics
from postfleet_workers.store.session import statements, transaction
from postfleet_workers.worker.bundle import Bundle
from postfleet_workers.worker.lease import Lease
from postfleet_workers.worker.load import LoadMeter, Stint
from postfleet_workers.worker.pace import Paces

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
FLUSH_SECONDS = 1.0
OVERDUE_FACTOR = 3.0
UNKNOWN_TYPE_SECONDS = 30.0

Items = Sequence[tuple[int, int]]


class Runner:
    """Runs bundles for the threads of one process, and gives up what is left when the process must end."""

    def __init__(
        self,
        *,
        engine: Engine,
        lease: Lease,
        journal: ClaimJournal,
        epoch: Callable[[], str | None],
        registry: Registry,
        meter: LoadMeter,
        metrics: WorkerMetrics,
        paces: Paces,
        database_clock: clock.DatabaseClock,
        target_seconds: float,
        backoff_base_seconds: float,
    ) -> None:
        self._engine = engine
        self._lease = lease
        self._journal = journal
        self._epoch = epoch
        self._registry = registry
        self._meter = meter
        self._metrics = metrics
        self._paces = paces
        self._clock = database_clock
        self._overdue_seconds = OVERDUE_FACTOR * target_seconds
        self._base_seconds = backoff_base_seconds
        self._running: dict[str, Bundle] = {}
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.abandoned = threading.Event()

    def run(self, type_name: str, items: Items) -> None:
        """Run the bundle of one message. Returns once every outcome is written, or nothing of it is ours."""
        job_type = self._registry.find(type_name)
        if job_type is None:
            self._postpone(type_name, items)
            return
        bundle = self._claim(job_type, items)
        if bundle is None:
            return
        try:
            with self._meter.busy() as stint:
                self._perform(bundle, stint)
        except Exception:
            # Ours, not the job's: without this the rows would stay `executing` until they count as stalled.
            log.exception("bundle_failed", claim=bundle.claim)
            self._give_up(bundle)
        finally:
            with self._lock:
                self._running.pop(bundle.claim, None)

    def give_up(self) -> None:
        """The shutdown timeout has ended: settle what still runs, by the journal, so that no thread may go on.

        A mail whose final dot went out without a reply becomes `unknown`; what had not got so far is handed back.
        """
        self.abandoned.set()
        with self._lock:
            left = list(self._running.values())
        for bundle in left:
            self._give_up(bundle)

    def _claim(self, job_type: JobType, items: Items) -> Bundle | None:
        claim = uuid.uuid4().hex
        while True:
            if self.stopping.is_set():
                self._unpublish(items)
                return None
            try:
                if self._lease.holds():
                    return self._try_claim(job_type, items, claim)
            except StoreUnavailable as error:
                # Whether it was committed is not known: the same claim again answers with what it has.
                log.warning("claim_waits", error=str(error))
            self.stopping.wait(RETRY_SECONDS)

    def _try_claim(self, job_type: JobType, items: Items, claim: str) -> Bundle | None:
        worker = self._lease.who.id
        try:
            epoch = self._epoch()
        except PipeUnavailable:
            epoch = None
        if epoch is None:  # Redis was emptied or is away, and this message with it: the relay publishes again
            self._unpublish(items)
            return None
        with statements(self._engine) as connection:
            jobs = ledger.claim(connection, items, worker=worker, claim=claim, epoch=epoch)
            if len(jobs) < len(items):  # on hold, or expired: not to wait out the publishing lease
                ledger.unpublish(connection, items)
        if not jobs:
            return None
        bundle = Bundle(
            claim=claim,
            epoch=jobs[0].claim_epoch,
            job_type=job_type,
            jobs=jobs,
            worker=worker,
            journal=self._journal,
            now=self._clock.now,
            halted=self._halted,
            patience_seconds=self._overdue_seconds,
        )
        with self._lock:
            self._running[claim] = bundle
        return bundle

    def _halted(self) -> bool:
        return self.stopping.is_set() or not self._lease.holds()

    def _perform(self, bundle: Bundle, stint: Stint) -> None:
        if self._open(bundle):
            with self._metrics.timing(bundle.job_type.name) as ran:
                self._perform_all(bundle, ran, stint)
        self._hand_back(bundle, bundle.unbegun(), "not begun")
        self._write(bundle)
        if not bundle.lost:
            self._close(bundle)

    def _open(self, bundle: Bundle) -> bool:
        try:
            return self._journal.open(bundle.claim, bundle.worker, bundle.epoch)
        except PipeUnavailable as error:
            log.warning("journal_not_opened", claim=bundle.claim, error=str(error))
            return False

    def _perform_all(self, bundle: Bundle, ran: Ran, stint: Stint) -> None:
        """Perform the jobs in order, lot by lot; returns when all are done, or when no further one may begin."""
        rest = bundle.unbegun()
        flushed = clock.monotonic()
        ended: dict[int, str] = {}
        first = True
        while rest:
            # A generator that raised is finished: each failure starts a new one on what is left.
            performing = bundle.job_type.perform(tuple(rest), bundle)
            failed = False
            while rest and not failed:
                lot = _lot(bundle.job_type, rest)
                if bundle.halted() or (bundle.overdue() and not first) or not self._begin(bundle, ended, lot):
                    performing.close()
                    return
                started_at, begun = bundle.now(), clock.monotonic()
                found, failed = self._outcomes(bundle, lot, performing)
                first = False
                del rest[: len(lot)]
                seconds = clock.monotonic() - begun
                each, aside = _shares(lot, found, bundle.held_seconds, seconds)
                ended = {}
                for job, outcome in zip(lot, found, strict=True):
                    share = aside if outcomes.put_back(outcome) else each
                    stint.note(outcome, share)
                    self._paces.note(job, outcome, share, bundle.held_seconds(job) or share)
                    ran(job, started_at, seconds, outcome)
                    self._note(bundle, job, outcome, started_at)
                    if word := outcomes.last_word(bundle.job_type, outcome):
                        ended[job.id] = word
                if rest and clock.monotonic() - flushed > FLUSH_SECONDS:
                    self._write(bundle)
                    flushed = clock.monotonic()
            performing.close()

    def _outcomes(
        self, bundle: Bundle, lot: Sequence[Job], performing: Iterator[Outcome]
    ) -> tuple[list[Outcome], bool]:
        """What comes of a lot that has begun, and whether its job type raised."""
        found: list[Outcome] = []
        try:
            while len(found) < len(lot):
                found.append(next(performing))
        except Exception as error:
            culprit, *others = lot[len(found) :]
            log.exception("job_raised", job_id=culprit.id, type=culprit.type)
            raised = Transient(f"{type(error).__name__}: {error}")
            # Before any outcome it is nobody's in particular: each pays an attempt, or they would come back for ever.
            spared = HandBack("another job of its lot raised") if found else raised
            found.append(self._recovered(bundle, culprit) or raised)
            found += [self._recovered(bundle, job) or spared for job in others]
            return found, True
        return found, False

    @staticmethod
    def _recovered(bundle: Bundle, job: Job) -> Outcome | None:
        """What the type reads from how far a job got that will have no outcome of its own."""
        return bundle.job_type.recover(job, bundle.trace(job)) if bundle.job_type.recover else None

    @staticmethod
    def _begin(bundle: Bundle, ended: Mapping[int, str], lot: Sequence[Job]) -> bool:
        try:
            bundle.begin(ended, lot)
        except PipeUnavailable as error:
            log.warning("begin_not_journalled", job_ids=[job.id for job in lot], error=str(error))
            return False
        return True

    def _note(self, bundle: Bundle, job: Job, outcome: Outcome | outcomes.Rescued, started_at: datetime | None) -> None:
        # Spreads retries; nothing secret hangs on it.
        move = outcomes.move(job, bundle.job_type, outcome, self._base_seconds, random.random())  # noqa: S311
        bundle.note(ledger.Result(job, outcome, move, started_at))

    def _hand_back(self, bundle: Bundle, jobs: Iterable[Job], reason: str) -> None:
        for job in jobs:
            self._note(bundle, job, HandBack(reason), None)

    def _write(self, bundle: Bundle) -> None:
        """Write the outcomes at hand; waits for PostgreSQL as long as the process lives."""
        with suppress(PipeUnavailable):  # only a crash before they are written needs it
            bundle.tell()
        while True:
            with bundle.taken:
                if bundle.lost or not bundle.noted():
                    return
                try:
                    self._settle(bundle)
                except StoreUnavailable as error:
                    log.warning("outcomes_wait", claim=bundle.claim, jobs=len(bundle.noted()), error=str(error))
                else:
                    return
            self.abandoned.wait(RETRY_SECONDS)

    def _settle(self, bundle: Bundle) -> None:
        results = bundle.noted()
        try:
            self._settle_some(bundle, results)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("outcomes_not_written_together", claim=bundle.claim, jobs=len(results))
            self._settle_apart(bundle, results)

    def _settle_apart(self, bundle: Bundle, results: Sequence[ledger.Result]) -> None:
        """One outcome cannot be written: it must not keep the others. Its job counts as stalled in the end."""
        for result in results:
            try:
                self._settle_some(bundle, [result])
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("outcome_not_written", job_id=result.job.id, claim=bundle.claim)
                bundle.forget(result.job.id)

    def _settle_some(self, bundle: Bundle, results: Sequence[ledger.Result]) -> None:
        if not results:
            return
        with transaction(self._engine) as connection:
            settled = ledger.settle(connection, results, worker=bundle.worker, registry=self._registry)
        for one in settled:
            bundle.forget(one.job.id)
            if not one.accepted:
                log.warning("outcome_fenced_out", job_id=one.job.id, claim=bundle.claim)
        self._meter.settled(one.outcome for one in settled)
        self._metrics.settled(settled)

    def _give_up(self, bundle: Bundle) -> None:
        with bundle.taken:
            try:
                traces = self._journal.revoke(bundle.claim, bundle.epoch)
            except PipeUnavailable as error:
                bundle.lost = True
                log.warning("gave_up_without_settling", claim=bundle.claim, error=str(error))
                return
            for job in bundle.open_jobs():
                found = outcomes.recover(job, bundle.job_type, bundle.trace(job, traces), "its worker stopped")
                given_back = isinstance(found, outcomes.Rescued)
                self._note(bundle, job, HandBack("its worker stopped") if given_back else found, None)
            self._hand_back(bundle, bundle.unbegun(), "its worker stopped")
            bundle.lost = True
            try:
                self._settle(bundle)
                log.warning("gave_up", claim=bundle.claim)
            except StoreUnavailable as error:
                log.warning("gave_up_without_settling", claim=bundle.claim, error=str(error))

    def _postpone(self, type_name: str, items: Items) -> None:
        """Another worker may know the type, after a rollout for example: look again later, and say why on the row."""
        log.error("unknown_job_type", type=type_name, jobs=len(items))
        try:
            with transaction(self._engine) as connection:
                ledger.postpone(connection, items, UNKNOWN_TYPE_SECONDS, f"no worker here knows job type {type_name}")
        except StoreUnavailable as error:
            log.warning("left_to_the_publishing_lease", jobs=len(items), error=str(error))

    def _unpublish(self, items: Items) -> None:
        try:
            with transaction(self._engine) as connection:
                ledger.unpublish(connection, items)
        except StoreUnavailable as error:
            log.warning("left_to_the_publishing_lease", jobs=len(items), error=str(error))

    def _close(self, bundle: Bundle) -> None:
        try:
            self._journal.close(bundle.claim)
            self._paces.report()
        except PipeUnavailable:
            log.info("journal_left_to_expire", claim=bundle.claim)


def _shares(
    lot: Sequence[Job], found: Sequence[Outcome], held: Callable[[Job], float | None], seconds: float
) -> tuple[float, float]:
    """What of a lot's time each job took that was done, and each that was put back.

    The time is of those that were done; but for what only the others took, a silent server say.
    """
    back = [job for job, outcome in zip(lot, found, strict=True) if outcomes.put_back(outcome)]
    done = [job for job, outcome in zip(lot, found, strict=True) if not outcomes.put_back(outcome)]
    if not back or not done:
        return seconds / len(lot), seconds / len(lot)
    longest_back, longest_done = (max(held(job) or 0.0 for job in jobs) for jobs in (back, done))
    aside = min(max(longest_back - longest_done, 0.0), seconds)
    return (seconds - aside) / len(done), aside / len(back)


def _lot(job_type: JobType, rest: Sequence[Job]) -> list[Job]:
    """The jobs that begin next, together. One that ran when its worker died runs alone: the next strike is its own."""
    if rest[0].strikes:
        return [rest[0]]
    return list(takewhile(lambda job: not job.strikes, rest[: job_type.at_once]))
