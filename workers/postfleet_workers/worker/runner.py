"""Run one bundle: claim its rows, perform them one by one, settle their outcomes. Thin: each step lives elsewhere.

What goes wrong on the way, and what then happens:

    PostgreSQL away at the claim    wait for it; nothing was begun. A shutdown leaves it to the publishing lease.
    PostgreSQL away at the outcome  wait for it; the journal holds what happened.
    Redis away at a begin           the unbegun rest is handed back; what has begun is settled by its row.
    perform raises                  a failed attempt of the job that was running; the rest goes on.
    stopping, overdue, lease gone   the unbegun rest is handed back, no attempt used.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog
from sqlalchemy import Engine

from postfleet_workers import clock, ledger, outcomes
from postfleet_workers.errors import PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import HandBack, Job, JobType, Outcome, Registry, Transient
from postfleet_workers.journal import ClaimJournal
from postfleet_workers.store.session import transaction
from postfleet_workers.worker.lease import Lease
from postfleet_workers.worker.load import LoadMeter
from postfleet_workers.worker.pace import Paces

log = structlog.get_logger(__name__)

RETRY_SECONDS = 0.5
FLUSH_SECONDS = 1.0
OVERDUE_FACTOR = 3.0


@dataclass(slots=True)
class Bundle:
    """A claimed bundle while it runs; the `Run` that its job type sees. `unsettled` shrinks as outcomes are written."""

    claim: str
    job_type: JobType
    worker: str
    unsettled: dict[int, Job]
    journal: ClaimJournal
    now: Callable[[], datetime]
    halted: Callable[[], bool]
    results: list[ledger.Result] = field(default_factory=list)
    started: float = field(default_factory=clock.monotonic)
    taken: threading.Lock = field(default_factory=threading.Lock)
    lost: bool = False

    def stopping(self) -> bool:
        """See `jobs.Run`."""
        return self.halted()

    def dot(self, job: Job) -> bool:
        """See `jobs.Run`."""
        return self.journal.dot(self.claim, job.id)

    def reply(self, job: Job, detail: str) -> None:
        """See `jobs.Run`."""
        self.journal.reply(self.claim, job.id, detail)


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
        self._paces = paces
        self._clock = database_clock
        self._overdue_seconds = OVERDUE_FACTOR * target_seconds
        self._base_seconds = backoff_base_seconds
        self._running: dict[str, Bundle] = {}
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self.abandoned = threading.Event()

    def run(self, type_name: str, items: Sequence[tuple[int, int]]) -> None:
        """Run the bundle of one message. Returns once every outcome is written, or nothing of it is ours."""
        job_type = self._registry.get(type_name)
        bundle = self._claim(job_type, items)
        if bundle is None:
            return
        with self._meter.busy():
            try:
                self._perform(bundle)
            except Exception:
                # Ours, not the job's: without this the rows would stay `executing` until they count as stalled.
                log.exception("bundle_failed", claim=bundle.claim)
                with bundle.taken:
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
            with bundle.taken:
                self._give_up(bundle)

    def _claim(self, job_type: JobType, items: Sequence[tuple[int, int]]) -> Bundle | None:
        claim = uuid.uuid4().hex
        while True:
            if self.stopping.is_set():
                self._unpublish(items)
                return None
            try:
                if self._lease.holds():
                    return self._try_claim(job_type, items, claim)
            except StoreUnavailable as error:
                log.warning("claim_waits", error=str(error))
            self.stopping.wait(RETRY_SECONDS)

    def _try_claim(self, job_type: JobType, items: Sequence[tuple[int, int]], claim: str) -> Bundle | None:
        worker = self._lease.who.id
        try:
            epoch = self._epoch()
        except PipeUnavailable:
            epoch = None
        if epoch is None:  # Redis was emptied or is away, and this message with it: the relay publishes again
            self._unpublish(items)
            return None
        with transaction(self._engine) as connection:
            jobs = ledger.claim(connection, items, worker=worker, claim=claim, epoch=epoch)
        if not jobs:
            return None
        bundle = Bundle(
            claim, job_type, worker, {job.id: job for job in jobs}, self._journal, self._clock.now, self._halted
        )
        with self._lock:
            self._running[claim] = bundle
        try:
            opened = self._journal.open(claim, worker, epoch)
        except PipeUnavailable:
            opened = False
        if not opened:
            self._hand_back(bundle, jobs, "the journal could not be opened")
            self._write(bundle)
            with self._lock:
                self._running.pop(claim, None)
            return None
        return bundle

    def _halted(self) -> bool:
        return self.stopping.is_set() or not self._lease.holds()

    def _perform(self, bundle: Bundle) -> None:
        rest = list(bundle.unsettled.values())
        flushed = clock.monotonic()
        performed = 0
        ended: tuple[int, str] | None = None
        while rest:
            # A generator that raised is finished: each failure starts a new one on what is left.
            performing = bundle.job_type.perform(tuple(rest), bundle)
            while rest:
                job = rest[0]
                overdue = clock.monotonic() - bundle.started > self._overdue_seconds
                if bundle.halted() or (overdue and performed) or not self._begin(bundle, ended, job):
                    performing.close()
                    self._hand_back(bundle, rest, "not begun")
                    rest = []
                    break
                started_at = bundle.now()
                begun = clock.monotonic()
                failed = False
                outcome: Outcome
                try:
                    outcome = next(performing)
                except Exception as error:
                    log.exception("job_raised", job_id=job.id, type=job.type)
                    outcome, failed = Transient(f"{type(error).__name__}: {error}"), True
                rest.pop(0)
                performed += 1
                self._paces.note(job, clock.monotonic() - begun, outcome)
                self._note(bundle, job, outcome, started_at)
                word = outcomes.last_word(bundle.job_type, outcome)
                ended = (job.id, word) if word else None
                if rest and clock.monotonic() - flushed > FLUSH_SECONDS:
                    self._write(bundle)
                    flushed = clock.monotonic()
                if failed:
                    break
            else:
                performing.close()
        self._write(bundle)
        if not bundle.lost:
            self._close(bundle)

    def _begin(self, bundle: Bundle, ended: tuple[int, str] | None, job: Job) -> bool:
        try:
            self._journal.advance(bundle.claim, ended, (job.id, bundle.now().timestamp()))
        except PipeUnavailable as error:
            log.warning("begin_not_journalled", job_id=job.id, error=str(error))
            return False
        return True

    def _note(self, bundle: Bundle, job: Job, outcome: Outcome, started_at: datetime | None) -> None:
        # Spreads retries; nothing secret hangs on it.
        move = outcomes.move(job, bundle.job_type, outcome, self._base_seconds, random.random())  # noqa: S311
        bundle.results.append(ledger.Result(job, outcome, move, started_at))

    def _hand_back(self, bundle: Bundle, jobs: Sequence[Job], reason: str) -> None:
        for job in jobs:
            self._note(bundle, job, HandBack(reason), None)

    def _write(self, bundle: Bundle) -> None:
        """Write the outcomes at hand; waits for PostgreSQL as long as the process lives."""
        while True:
            with bundle.taken:
                if not bundle.results or bundle.lost:
                    return
                try:
                    self._settle(bundle)
                except StoreUnavailable as error:
                    log.warning("outcomes_wait", claim=bundle.claim, jobs=len(bundle.results), error=str(error))
                else:
                    return
            self.abandoned.wait(RETRY_SECONDS)

    def _settle(self, bundle: Bundle) -> None:
        try:
            self._settle_some(bundle, bundle.results)
        except StoreUnavailable:
            raise
        except Exception:
            log.exception("outcomes_not_written_together", claim=bundle.claim, jobs=len(bundle.results))
            self._settle_apart(bundle)
        bundle.results.clear()

    def _settle_apart(self, bundle: Bundle) -> None:
        """One outcome cannot be written: it must not keep the others. Its job counts as stalled in the end."""
        for result in bundle.results:
            try:
                self._settle_some(bundle, [result])
            except StoreUnavailable:
                raise
            except Exception:
                log.exception("outcome_not_written", job_id=result.job.id, claim=bundle.claim)

    def _settle_some(self, bundle: Bundle, results: Sequence[ledger.Result]) -> None:
        with transaction(self._engine) as connection:
            settled = ledger.settle(connection, results, worker=bundle.worker, registry=self._registry)
        for one in settled:
            bundle.unsettled.pop(one.job.id, None)
            if not one.accepted:
                log.warning("outcome_fenced_out", job_id=one.job.id, claim=bundle.claim)
        self._meter.settled(len(settled))

    def _give_up(self, bundle: Bundle) -> None:
        bundle.lost = True
        epoch = next((job.claim_epoch for job in bundle.unsettled.values()), "")
        try:
            traces = self._journal.revoke(bundle.claim, epoch)
            noted = {result.job.id for result in bundle.results}
            for job in [job for job in bundle.unsettled.values() if job.id not in noted]:
                found = outcomes.recover(job, bundle.job_type, traces.of(job.id), "its worker stopped")
                outcome = HandBack("its worker stopped") if isinstance(found, outcomes.Rescued) else found
                self._note(bundle, job, outcome, None)
            self._settle(bundle)
            log.warning("gave_up", claim=bundle.claim)
        except (PipeUnavailable, StoreUnavailable) as error:
            log.warning("gave_up_without_settling", claim=bundle.claim, error=str(error))

    def _unpublish(self, items: Sequence[tuple[int, int]]) -> None:
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
