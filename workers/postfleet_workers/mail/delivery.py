"""One bundle of emails, delivered in order: load, then per mail where it goes, make it, a session, admission, send it.

Nothing here decides what a reply means (`outcome`) or keeps a connection (`sessions`). A mail is put back, never
dropped, when something it needs is missing; after a session failed the rest of the bundle for the same destination
waits a little instead of running into the same wall one by one. What a limit holds goes back to the relay, which holds
it from then on; a site without a name has no route there, so mail for it waits by itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy import Engine

from postfleet_workers.errors import InputError, PermanentError, PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Run, Snooze, Transient
from postfleet_workers.mail.admission import limits_at, sessions_at
from postfleet_workers.mail.directory import Directory
from postfleet_workers.mail.errors import ConnectionLost, NowhereToGo, SetupFault, SmtpFault, Unreachable
from postfleet_workers.mail.message.press import Mail, Press, Supplies
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.parcels import Parcel, Store
from postfleet_workers.mail.permits import Permits
from postfleet_workers.mail.replies.outcome import (
    OVER,
    History,
    MailRecord,
    Schedule,
    Status,
    Target,
    failed,
    outcome_of_fault,
    outcome_of_reply,
)
from postfleet_workers.mail.replies.reply import NO_ANSWER, Phase, to_detail
from postfleet_workers.mail.smtp.exchange import OWN_SERVER, Destination, Exchanges
from postfleet_workers.mail.smtp.session import CLOSING, Answer
from postfleet_workers.mail.smtp.sessions import Held, Sessions
from postfleet_workers.placement import SHARED, node_of
from postfleet_workers.store.session import statements
from postfleet_workers.throttling.limiter import Limiter
from postfleet_workers.throttling.limits import Limit

log = structlog.get_logger(__name__)

PIPE_AWAY_SECONDS = 5.0
AFTER_FAULT_SECONDS = 30.0
SESSION_WAIT_SECONDS = 5.0
# So often a mail waits for a recipient's server that is away, untried. Then it is deferred as if it had been tried, or
# it would come back for ever: of much mail for one dead server each gets its turn to try it but once in days.
MOST_WAITS = 3
# The relay knows within a poll that a node is gone or has moved, and sends its mail by the right road, or holds it. Not
# at once: where workers and relay disagree for good, about POSTFLEET_NODE say, the mail would run in a circle.
MISPLACED_SECONDS = 1.0
# Mail for a site without a name that takes no more now: it may be much, and is not to come back all at once. The
# oftener one was put back, the more seem to wait, and the longer the time over which they are spread, up to a minute.
SITE_SECONDS = 1.0
MOST_DOUBLINGS = 6
# The mail behind it in its bundle goes elsewhere, and would be handed back as overdue.
SITE_SESSION_WAIT_SECONDS = 2.0

Lane = tuple[str, tuple[str, ...]]  # node and destination
Shelf = tuple[str, str, int | None, str]  # node, tenant, campaign and site: mail under the same limits


@dataclass(frozen=True, slots=True)
class Deps:
    """What deliveries need, made once per process.

    Attributes:
        engine: PostgreSQL.
        limiter: limits over the cluster.
        sessions: SMTP sessions of this process.
        exchanges: where each mail goes.
        monotonic: a monotonic clock, in seconds.
        jitter: uniform in [0, 1).
        pause: waits so many seconds, for a permit that is nearly due.
        schedule: when deferred mail is tried again.
        place: whose workers these are, `shared` or a Dedicated node's name.
        session_wait_seconds: how long a bundle waits for a session while all are taken.
        directory: campaigns, nodes and tenants, kept for seconds.
        supplies: what mails are made with.
    """

    engine: Engine
    limiter: Limiter
    sessions: Sessions
    exchanges: Exchanges
    monotonic: Callable[[], float]
    jitter: Callable[[], float]
    pause: Callable[[float], object]
    schedule: Schedule = field(default_factory=Schedule)
    place: str = SHARED
    session_wait_seconds: float = SESSION_WAIT_SECONDS
    directory: Directory = field(default_factory=Directory)
    supplies: Supplies = field(default_factory=Supplies)


class Delivery:
    """The state of one bundle's run. Used once, by one thread."""

    def __init__(self, deps: Deps, jobs: Sequence[Job], run: Run) -> None:
        self._deps = deps
        self._jobs = jobs
        self._run = run
        self._press = Press(deps.supplies)
        self._held: Held | None = None
        self._permits: dict[Shelf, Permits] = {}
        self._left: Counter[Shelf] = Counter()  # mails of the bundle that are still to come, by domain for want of site
        self._broken: dict[Lane, Outcome] = {}  # what happens to the rest of the mails that go there
        self._away: dict[Lane, SmtpFault] = {}  # recipients' servers
        self._over: Outcome | None = None  # what happens to all the rest
        self._noted = False  # the journal says how this mail ended, or that its dot went out

    def outcomes(self) -> Generator[Outcome, None, None]:
        """One outcome per job, in order."""
        try:
            parcels = self._load()
        except StoreUnavailable as error:
            for _ in self._jobs:
                yield HandBack(f"PostgreSQL is away: {error}")
            return
        self._left.update(_shelf(parcel, parcel.domain) for parcel in parcels.values())
        try:
            for job in self._jobs:
                parcel = parcels.get(job.id)
                if parcel is None:
                    yield failed(node_of(job.route), Phase.CONNECT, f"job {job.id} has no email")
                elif parcel.row.status in OVER:
                    yield Done()
                else:
                    self._noted = False
                    outcome = self._outcome(job, parcel)
                    self._note(job, NO_ANSWER)
                    yield outcome
                if parcel is not None:
                    self._left[_shelf(parcel, parcel.domain)] -= 1
        finally:
            self._finish()

    def _load(self) -> dict[int, Parcel]:
        deps = self._deps
        with statements(deps.engine) as connection:
            store = Store(deps.directory, deps.place, deps.supplies.key)
            return store.load(connection, self._jobs, deps.monotonic(), self._run.now().date())

    def _outcome(self, job: Job, parcel: Parcel) -> Outcome:
        node = parcel.node
        name = parcel.row.node
        if parcel.suppressed is not None:
            return Done(MailRecord(name, Phase.CONNECT, Status.SUPPRESSED, str(parcel.suppressed)))
        if node is None:
            return Snooze(MISPLACED_SECONDS, f"sending node {name} does not exist", kind="node_unknown")
        if node.paused:
            return HandBack(f"node {name} is paused")
        if not node.served_by(self._deps.place):
            reason = f"node {name} is not served by {self._deps.place} workers"
            return Snooze(MISPLACED_SECONDS, reason, kind="misplaced")
        if not node.open_to(parcel.row.tenant):
            return Transient(f"sending node {name!r} is not open to tenant {parcel.row.tenant!r}")
        destination = self._deps.exchanges.of(node, parcel.domain)
        if not isinstance(destination, Destination):
            return outcome_of_reply(
                destination, Phase.CONNECT, Target(name), self._history(parcel), self._deps.schedule
            )
        slowed = node.slowed_at(destination.site)
        if slowed.suspended:
            reason = f"node {name} at {destination.site} {slowed.suspended}"
            return self._wait_for(job, node, destination, slowed.wait_seconds, reason)
        if slowed.connections is not None:
            destination = replace(destination, limits=sessions_at(destination.limits, slowed))
        return self._try(job, parcel, node, destination)

    def _try(self, job: Job, parcel: Parcel, node: NodeSpec, destination: Destination) -> Outcome:
        lane = node.name, destination.key
        if self._over:
            return self._over
        if lane in self._broken:
            return self._put_off(job, parcel, destination, lane)
        try:
            mail = self._press.make(parcel, node, self._run.now())
            return self._send(job, parcel, node, destination, mail)
        except (PermanentError, InputError) as error:
            return failed(node.name, Phase.CONNECT, str(error))
        except SmtpFault as fault:
            target = Target(node.name, destination.site, fault.host)
            outcome = outcome_of_fault(fault, target, self._history(parcel), self._deps.schedule)
            if isinstance(fault, ConnectionLost | NowhereToGo):
                return outcome
            self._broken[lane] = self._rest(node.name, fault, outcome)
            if node.direct and isinstance(fault, Unreachable):
                self._away[lane] = fault
            return self._put_off(job, parcel, destination, lane) if fault.remembered else outcome
        except PipeUnavailable as error:
            self._over = Snooze(PIPE_AWAY_SECONDS, f"Redis is away: {error}", kind="redis_away")
            return self._over

    def _put_off(self, job: Job, parcel: Parcel, destination: Destination, lane: Lane) -> Outcome:
        """What happens to a mail that is not tried now; it is not deferred either, at first."""
        fault = self._away.get(lane)
        if fault is None or job.snoozes < MOST_WAITS:
            return self._broken[lane]
        target = Target(parcel.row.node, destination.site, fault.host)
        return outcome_of_fault(fault, target, self._history(parcel), self._deps.schedule)

    def _rest(self, node: str, fault: SmtpFault, outcome: Outcome) -> Outcome:
        """What the bundle's other mails of the node wait for, after its session could not be opened."""
        if not fault.remembered:
            log.warning("smtp_session_failed", node=node, phase=str(fault.phase), error=str(fault))
        if isinstance(fault, SetupFault) and isinstance(outcome, Snooze):
            return replace(outcome, record=None)
        wait = min(AFTER_FAULT_SECONDS, self._deps.schedule.base_seconds)
        return Snooze(wait, f"node {node}: {fault}", kind="node_unreachable")

    def _send(self, job: Job, parcel: Parcel, node: NodeSpec, destination: Destination, mail: Mail) -> Outcome:
        """Session, admission, transaction. Admission comes last, so that no permit is spent on a failed connection."""
        held = self._session(node, destination)
        if held is None:
            lane, reason = (node.name, destination.key), _no_session(node, destination)
            self._broken[lane] = self._wait_for(job, node, destination, SESSION_WAIT_SECONDS, reason)
            return self._broken[lane]
        permits, ask_for = self._permits_of(job, parcel, node, destination)
        if refused := permits.take(ask_for):
            reason = f"held by {refused.bound}"
            if refused.bound in {limit.name for limit in self._limits_at(node, destination)}:
                return self._wait_for(job, node, destination, refused.wait_seconds, reason)
            return HandBack(reason)
        accepted = False
        try:
            answer = self._deliver(job, held, node, destination, mail)
            accepted = answer is not None and (answer.reply.accepted or answer.reply.code < 0)
        except ConnectionLost as lost:
            accepted = lost.phase is Phase.DOT  # nobody knows: it counts
            raise
        finally:
            if not accepted:
                with suppress(PipeUnavailable):  # what was reserved then counts as accepted: slower, never too fast
                    permits.not_accepted()
        if answer is None:
            self._over = HandBack("the claim is no longer ours")  # no other dot would be let out either
            return self._over
        self._noted = False
        self._note(job, to_detail(answer.phase, answer.reply))
        host = (self._held or held).session.host  # not the first one's, where that had ended
        target = Target(node.name, destination.site, host)
        return outcome_of_reply(answer.reply, answer.phase, target, self._history(parcel), self._deps.schedule)

    def _wait_for(self, job: Job, node: NodeSpec, destination: Destination, seconds: float, reason: str) -> Outcome:
        """Put back what its site holds: to the relay, where the site has a route; else for as long as it takes."""
        if not self._is_nameless(node, destination):
            route = node.route(destination.site)
            return HandBack(reason, route=None if route == job.route else route)
        spread = SITE_SECONDS * 2 ** min(job.snoozes, MOST_DOUBLINGS) * self._deps.jitter()
        return Snooze(max(SITE_SECONDS, seconds) + spread, reason, kind="site_limit")

    def _deliver(self, job: Job, held: Held, node: NodeSpec, destination: Destination, mail: Mail) -> Answer | None:
        """Hand the mail over; once more on a new session when a used one turns out to have ended at its MAIL.

        Servers end a connection after so many mails or seconds, some without a word. That says nothing about this mail.
        """
        used = held.session.delivered > 0
        try:
            answer = self._hand_over(job, held, mail)
        except ConnectionLost as lost:
            if not used or lost.phase is not Phase.MAIL:
                raise
        else:
            if answer is None or not used or (answer.phase, answer.reply.code) != (Phase.MAIL, CLOSING):
                return answer
        self._return_session()
        renewed = self._session(node, destination)
        if renewed is None:
            raise ConnectionLost(Phase.MAIL, "the session ended, and no other is free")
        return self._hand_over(job, renewed, mail)

    def _hand_over(self, job: Job, held: Held, mail: Mail) -> Answer | None:
        return held.session.deliver(
            sender=mail.sender,
            recipient=mail.recipient,
            message=mail.message,
            before_dot=lambda: self._dot(job),
        )

    def _dot(self, job: Job) -> bool:
        self._noted = True  # from here on only an answer may follow in the journal: silence means unknown
        return self._run.dot(job)

    def _note(self, job: Job, detail: str) -> None:
        """Journal how the mail ended, once: a worker that dies before it is written did not die of this mail."""
        if not self._noted:
            self._noted = True
            with suppress(PipeUnavailable):  # the outcome is written in any case; only a crash before that needs this
                self._run.reply(job, detail)

    def _session(self, node: NodeSpec, destination: Destination = OWN_SERVER) -> Held | None:
        held = self._held
        if held is not None and held.fit and held.serves(node, destination):
            return held
        self._return_session()
        patience = self._deps.session_wait_seconds
        if self._is_nameless(node, destination):
            patience = min(patience, SITE_SESSION_WAIT_SECONDS)
        self._held = self._deps.sessions.take(node, patience, destination)
        return self._held

    def _return_session(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._deps.sessions.give_back(held)

    def _permits_of(self, job: Job, parcel: Parcel, node: NodeSpec, destination: Destination) -> tuple[Permits, int]:
        """The permits that this mail needs, and how many mails of the bundle need the same."""
        shelf = _shelf(parcel, destination.site)
        if shelf not in self._permits:
            limits = (*parcel.limits, *self._limits_at(node, destination))
            self._permits[shelf] = Permits(self._deps.limiter, limits, self._deps.monotonic, self._deps.pause)
        whole_route = node.route(destination.site) == job.route and not self._is_nameless(node, destination)
        alike = sum(self._left.values()) if whole_route else self._left[_shelf(parcel, parcel.domain)]
        return self._permits[shelf], max(1, alike)

    @staticmethod
    def _is_nameless(node: NodeSpec, destination: Destination) -> bool:
        """Whether the mail goes to a site that has no route of its own."""
        return bool(destination.site) and destination.site not in node.sites

    @staticmethod
    def _limits_at(node: NodeSpec, destination: Destination) -> tuple[Limit, ...]:
        return limits_at(node.name, destination.site, destination.limits, node.slowed_at(destination.site))

    def _history(self, parcel: Parcel) -> History:
        row = parcel.row
        age = (self._run.now() - row.begun_at).total_seconds() if row.begun_at else 0.0
        return History(row.deferrals, age, self._deps.jitter())

    def _finish(self) -> None:
        self._return_session()
        for permits in self._permits.values():
            with suppress(PipeUnavailable):  # unused permits then count as used: slower, never too fast
                permits.give_back()


def _shelf(parcel: Parcel, site: str) -> Shelf:
    return parcel.row.node, parcel.row.tenant, parcel.row.campaign_id, site


def _no_session(node: NodeSpec, destination: Destination) -> str:
    most = destination.limits.max_connections
    where = f" at {destination.site}, of {most}" if most is not None else f", of {node.max_connections}"
    return f"no session of node {node.name} came free{where}"
