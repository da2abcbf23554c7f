"""The relay's loop: one process may serve every queue; for each queue one relay is active, others stand by.

    promote due rows -> allocate the free slots -> publish (commit) -> push        every tick, woken by NOTIFY
    look after messages, rescue, expire, report, even out                          every poll

Everything runs on one PostgreSQL session. The session holds an advisory lock per queue: when the session is lost so are
the locks, and another relay takes over.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import psycopg
import redis
import structlog
from prometheus_client import CollectorRegistry
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from postfleet_workers import clock, epoch, leases
from postfleet_workers.enqueue import CHANNEL
from postfleet_workers.errors import PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import FIRST_QUEUE, Registry
from postfleet_workers.journal import ClaimJournal
from postfleet_workers.mail import retention
from postfleet_workers.metrics.relay import RelayMetrics
from postfleet_workers.relay import care, gate, gauges, rows, sisters
from postfleet_workers.relay.publisher import Publisher
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.relay.rescue import expire, rescue
from postfleet_workers.settings import Settings

log = structlog.get_logger(__name__)

LOCK = text("SELECT pg_try_advisory_lock(hashtextextended('postfleet.relay.' || :queue, 0))")
HUNGRY_SECONDS = 0.1  # between ticks while rows wait for a free slot
RETRY_SECONDS = 1.0
HUNG_SECONDS = 30.0  # without a tick, or ten polls
SWEEP_SECONDS = 1.0  # between looks for abandoned and expired jobs
PROMOTE_LIMIT = 2000  # rows of a queue that become available in one tick
EXPIRE_LIMIT = 1000  # jobs cancelled in one transaction
EXPIRE_BATCHES = 5  # such transactions in one sweep


def collided(error: BaseException | None) -> bool:
    """Whether a statement was rolled back for another's sake: a deadlock, a serialization failure (SQLSTATE 40…)."""
    while error is not None:
        cause = error.orig if isinstance(error, DBAPIError) else error.__cause__
        if isinstance(cause, psycopg.Error):
            return (cause.sqlstate or "").startswith("40")
        error = cause
    return False


class Every:
    """True at most once per period."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._next = 0.0

    def due(self) -> bool:
        """Whether the period has passed; starts the next one."""
        now = clock.monotonic()
        if now < self._next:
            return False
        self._next = now + self.seconds
        return True


class Relay:
    """Serves queues until `stop` is set. Outages of PostgreSQL and Redis are waited out."""

    def __init__(
        self,
        *,
        engine: Engine,
        pipe: Pipe,
        publisher: Publisher,
        journal: ClaimJournal,
        client: redis.Redis,
        registry: Registry,
        settings: Settings,
        stop: threading.Event,
        metrics: RelayMetrics | None = None,
    ) -> None:
        self._engine = engine
        self._pipe = pipe
        self._publisher = publisher
        self._journal = journal
        self._client = client
        self._registry = registry
        self._settings = settings
        self._stop = stop
        self._metrics = metrics or RelayMetrics(CollectorRegistry())
        self._owned: set[str] = set()
        self._known: set[str] = set()
        self._rules = gate.Rules()
        self._live: Sequence[leases.LiveWorker] = ()
        self._attended: set[str] = set()
        self._dedicated: frozenset[str] = frozenset()
        self._contact_since = clock.monotonic()
        self._last_tick = clock.monotonic()
        self._poll = Every(settings.relay_poll_seconds)
        self._care = Every(settings.publication_seconds / 3)
        self._sweep = Every(SWEEP_SECONDS)
        self._forget = Every(3600)
        self._gauge = Every(gauges.COUNT_SECONDS)
        self._sisters = Every(sisters.EVERY_SECONDS)
        self.ready = threading.Event()

    def live(self) -> bool:
        """Whether the loop goes round. One that hangs holds its queues' locks, and nobody can take over."""
        return clock.monotonic() - self._last_tick <= max(HUNG_SECONDS, 10 * self._settings.relay_poll_seconds)

    def run(self) -> None:
        """Serve until told to stop."""
        while not self._stop.is_set():
            self._last_tick = clock.monotonic()  # no outage is the loop's own
            try:
                with self._engine.connect() as connection:
                    self._serve(connection)
            except (DBAPIError, StoreUnavailable) as error:
                self.ready.clear()
                self._metrics.lost()
                log.warning("postgresql_unavailable", error=str(error).splitlines()[0])
                self._engine.dispose()  # a demoted primary still answers, but must not be asked again
                self._stop.wait(RETRY_SECONDS)

    def _serve(self, connection: Connection) -> None:
        self._owned.clear()
        self._contact_since = clock.monotonic()
        self._poll = Every(self._settings.relay_poll_seconds)
        with connection.begin():
            connection.execute(text(f"LISTEN {CHANNEL}"))
        while not self._stop.is_set():
            self._notice_a_pause()
            began = clock.monotonic()
            try:
                hungry = self.tick(connection)
            except PipeUnavailable as error:
                self.ready.clear()
                log.warning("redis_unavailable", error=str(error))
                self._wait(connection, RETRY_SECONDS)
                continue
            except (DBAPIError, StoreUnavailable) as error:
                if not collided(error):
                    raise
                # PostgreSQL is well, and so are this session and its locks: only this tick's work is undone.
                log.warning("tick_lost", error=str(error).splitlines()[0])
                self._wait(connection, HUNGRY_SECONDS)
                continue
            self.ready.set()
            self._metrics.round(clock.monotonic() - began)
            self._wait(connection, HUNGRY_SECONDS if hungry else self._settings.relay_poll_seconds)

    def tick(self, connection: Connection) -> bool:
        """One round over the owned queues; whether rows still wait for a free slot."""
        poll = self._poll.due()
        if poll or not self._owned:
            self._look_around(connection)
        queues = self.urgent_first(self._owned)
        with connection.begin():
            promoted = rows.promote(connection, queues, PROMOTE_LIMIT)
        looks = self._publisher.publish(connection, queues, self._rules, self._live, full=poll)
        for look in looks:
            self._metrics.published(look.road, sum(look.published.values()))
        if poll:
            records = self._publisher.report(connection, looks, self._rules)
            plan = {key: most for look in reversed(looks) for key, most in look.permits.plan.items()}
            self._metrics.report(records, gauges.node_rates(self._rules, plan))
            self._maintain(connection)
            if self._sisters.due():
                sisters.even_out(connection, self._publisher.limiter, looks, self._rules)
        more_due = PROMOTE_LIMIT in promoted.values()
        return more_due or any(look.hungry for look in looks)

    def _look_around(self, connection: Connection) -> None:
        with connection.begin():
            self._live = leases.live(connection)
            lately = leases.lately(connection)
            rules = gate.read(connection)
            self._known |= rows.queues(connection)
            self._known.update(queue for worker in self._live for queue in worker.logical_queues)
        self._note_invalid(rules)
        self._known |= self._pipe.announced()
        with connection.begin():
            for queue in sorted(self._known - self._owned):
                if connection.execute(LOCK, {"queue": queue}).scalar_one():
                    self._owned.add(queue)
                    log.info("queue_taken", queue=queue)
        _, changed = epoch.keep(self._client, live_workers=lately)
        if changed:
            # Redis restarted or was flushed: what was on offer there may be gone.
            with connection.begin():
                rows.lapse(connection, sorted(self._owned))
            self._metrics.epoch_changed()
            log.warning("redis_epoch_changed")

    def _note_invalid(self, rules: gate.Rules) -> None:
        before, self._rules = self._rules.invalid(), rules
        for name, error in rules.invalid().items():
            if before.get(name) != error:
                log.error("closed_because_invalid", what=name, error=error)

    def _maintain(self, connection: Connection) -> None:
        owned = sorted(self._owned)
        live = {worker.id for worker in self._live}
        departed, self._attended = self._attended - live, live
        if departed or self._care.due() or self._rerouted():
            self._look_after(connection, owned, live)
            self._pipe.forget_brokers(live, (self._pipe.server_time() - self._settings.lease_seconds) * 1000)
        if self._sweep.due():
            self._expire(connection, owned)
            # A relay that was cut off itself cannot tell the dead from the cut off: it waits one full lease.
            if clock.monotonic() - self._contact_since >= self._settings.lease_seconds:
                with connection.begin():
                    settled = rescue(
                        connection, self._journal, self._registry, owned, self._settings.backoff_base_seconds
                    )
                self._metrics.settled(settled)
        if self._gauge.due():
            with connection.begin():
                counts, unknown = gauges.count(connection, owned)
            self._metrics.counted(counts, unknown)
        if self._forget.due():
            with connection.begin():
                leases.forget(connection)
            with connection.begin():
                retention.forget_attachments(connection, self._settings.attachment_days * 86_400)

    def _rerouted(self) -> bool:
        """Whether a node has become Dedicated, or has ceased to be: what lies on its old road must take the new one."""
        before, self._dedicated = self._dedicated, self._rules.dedicated()
        return before != self._dedicated

    def _look_after(self, connection: Connection, owned: list[str], live: set[str]) -> None:
        roads = {road for queue in owned for road in self._rules.roads(queue)}
        # And those that were: what lies there belongs nowhere near. A name may mean several things; the rows decide.
        current = {road for queue in self._known for road in self._rules.roads(queue)}
        left = self._pipe.queues() - current
        roads |= {road for road in left if any(road.startswith(f"{queue}.") for queue in owned)}
        for road in sorted(roads):
            belongs = partial(self._rules.goes_by, road)
            care.look_after(connection, self._pipe, road, belongs, live, self._settings.publication_seconds)

    def _expire(self, connection: Connection, queues: list[str]) -> None:
        for _ in range(EXPIRE_BATCHES):
            with connection.begin():
                if expire(connection, self._registry, queues, EXPIRE_LIMIT) < EXPIRE_LIMIT:
                    return

    def _notice_a_pause(self) -> None:
        now = clock.monotonic()
        if now - self._last_tick > max(5.0, self._settings.lease_seconds / 4):
            self._contact_since = now
        self._last_tick = now

    def _wait(self, connection: Connection, seconds: float) -> None:
        raw: Any = connection.connection.driver_connection
        try:
            for _ in raw.notifies(timeout=seconds, stop_after=1):
                pass
        except psycopg.OperationalError as error:
            connection.invalidate()
            raise StoreUnavailable(f"PostgreSQL: {error}") from error

    @staticmethod
    def urgent_first(queues: Iterable[str]) -> list[str]:
        """The strict queue first, the others by name."""
        return sorted(queues, key=lambda queue: (queue != FIRST_QUEUE, queue))
