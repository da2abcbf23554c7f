"""One bundle of emails, delivered in order: load, then per mail make it, get a session, ask admission, send.

Nothing here decides what a reply means (`outcome`) or keeps a connection (`sessions`). A mail is put back, never
dropped, when something it needs is missing; after a session failed the rest of the bundle waits a little instead of
running into the same wall one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy import Engine

from postfleet_workers.errors import InputError, PermanentError, PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Run, Snooze, Transient
from postfleet_workers.mail.directory import Directory
from postfleet_workers.mail.errors import ConnectionLost, SetupFault, SmtpFault
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.outcome import OVER, History, Schedule, Target, failed, outcome_of_fault, outcome_of_reply
from postfleet_workers.mail.parcels import Parcel, load
from postfleet_workers.mail.permits import Permits
from postfleet_workers.mail.press import Mail, Press, Supplies
from postfleet_workers.mail.reply import NO_ANSWER, Phase, to_detail
from postfleet_workers.mail.sessions import Held, Sessions
from postfleet_workers.mail.smtp import CLOSING, Answer
from postfleet_workers.placement import SHARED
from postfleet_workers.store.session import transaction
from postfleet_workers.throttling.limiter import Limiter
from postfleet_workers.throttling.limits import Limit

log = structlog.get_logger(__name__)

PIPE_AWAY_SECONDS = 5.0
AFTER_FAULT_SECONDS = 30.0
SESSION_WAIT_SECONDS = 5.0
# The relay knows within a poll that a node is gone or has moved, and sends its mail by the right road, or holds it. Not
# at once: where workers and relay disagree for good, about POSTFLEET_NODE say, the mail would run in a circle.
MISPLACED_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Deps:
    """What deliveries need, made once per process.

    Attributes:
        engine: PostgreSQL.
        limiter: limits over the cluster.
        sessions: SMTP sessions of this process.
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
        self._permits: dict[tuple[Limit, ...], Permits] = {}
        self._broken: dict[str, Outcome] = {}  # node -> what happens to the rest of its mails
        self._noted = False  # the journal says how this mail ended, or that its dot went out

    def outcomes(self) -> Generator[Outcome, None, None]:
        """One outcome per job, in order."""
        try:
            with transaction(self._deps.engine) as connection:
                parcels = load(connection, self._jobs, self._deps.directory, self._deps.monotonic(), self._deps.place)
        except StoreUnavailable as error:
            for _ in self._jobs:
                yield HandBack(f"PostgreSQL is away: {error}")
            return
        try:
            for number, job in enumerate(self._jobs):
                parcel = parcels.get(job.id)
                if parcel is None:
                    yield failed(job.route, Phase.CONNECT, f"job {job.id} has no email")
                elif parcel.row.status in OVER:
                    yield Done()
                else:
                    self._noted = False
                    outcome = self._outcome(job, parcel, len(self._jobs) - number)
                    self._note(job, NO_ANSWER)
                    yield outcome
        finally:
            self._finish()

    def _outcome(self, job: Job, parcel: Parcel, remaining: int) -> Outcome:
        node = parcel.node
        name = parcel.row.node
        if node is None:
            return Snooze(MISPLACED_SECONDS, f"sending node {name} does not exist", kind="node_unknown")
        if node.paused:
            return HandBack(f"node {name} is paused")
        if not node.served_by(self._deps.place):
            reason = f"node {name} is not served by {self._deps.place} workers"
            return Snooze(MISPLACED_SECONDS, reason, kind="misplaced")
        if not node.open_to(parcel.row.tenant):
            return Transient(f"sending node {name!r} is not open to tenant {parcel.row.tenant!r}")
        if name in self._broken:
            return self._broken[name]
        try:
            mail = self._press.make(parcel, node, self._run.now())
            return self._send(job, parcel, node, mail, remaining)
        except (PermanentError, InputError) as error:
            return failed(name, Phase.CONNECT, str(error))
        except SmtpFault as fault:
            outcome = outcome_of_fault(fault, Target(name), self._history(parcel), self._deps.schedule)
            if isinstance(fault, ConnectionLost):
                return outcome
            self._broken[name] = self._rest(name, fault, outcome)
            return self._broken[name] if fault.remembered else outcome  # what was not tried is not deferred either
        except PipeUnavailable as error:
            self._broken[name] = Snooze(PIPE_AWAY_SECONDS, f"Redis is away: {error}", kind="redis_away")
            return self._broken[name]

    def _rest(self, node: str, fault: SmtpFault, outcome: Outcome) -> Outcome:
        """What the bundle's other mails of the node wait for, after its session could not be opened."""
        if not fault.remembered:
            log.warning("smtp_session_failed", node=node, phase=str(fault.phase), error=str(fault))
        if isinstance(fault, SetupFault) and isinstance(outcome, Snooze):
            return replace(outcome, record=None)
        wait = min(AFTER_FAULT_SECONDS, self._deps.schedule.base_seconds)
        return Snooze(wait, f"node {node}: {fault}", kind="node_unreachable")

    def _send(self, job: Job, parcel: Parcel, node: NodeSpec, mail: Mail, remaining: int) -> Outcome:
        """Session, admission, transaction. Admission comes last, so that no permit is spent on a failed connection."""
        held = self._session(node)
        if held is None:
            self._broken[node.name] = HandBack(f"no session of node {node.name} came free, of {node.max_connections}")
            return self._broken[node.name]
        if bound := self._permit(parcel.limits, remaining):
            return HandBack(f"held by {bound}")
        answer = self._deliver(job, held, node, mail)
        if answer is None:
            return HandBack("the claim is no longer ours")
        self._noted = False
        self._note(job, to_detail(answer.phase, answer.reply))
        target = Target(node.name)
        return outcome_of_reply(answer.reply, answer.phase, target, self._history(parcel), self._deps.schedule)

    def _deliver(self, job: Job, held: Held, node: NodeSpec, mail: Mail) -> Answer | None:
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
        renewed = self._session(node)
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

    def _session(self, node: NodeSpec) -> Held | None:
        held = self._held
        if held is not None and held.fit and held.node.name == node.name:
            return held
        self._return_session()
        self._held = self._deps.sessions.take(node, self._deps.session_wait_seconds)
        return self._held

    def _return_session(self) -> None:
        held, self._held = self._held, None
        if held is not None:
            self._deps.sessions.give_back(held)

    def _permit(self, limits: tuple[Limit, ...], remaining: int) -> str | None:
        if limits not in self._permits:
            self._permits[limits] = Permits(self._deps.limiter, limits, self._deps.monotonic, self._deps.pause)
        return self._permits[limits].take(remaining)

    def _history(self, parcel: Parcel) -> History:
        row = parcel.row
        age = (self._run.now() - row.begun_at).total_seconds() if row.begun_at else 0.0
        return History(row.deferrals, age, self._deps.jitter())

    def _finish(self) -> None:
        self._return_session()
        for permits in self._permits.values():
            with suppress(PipeUnavailable):  # unused permits then count as used: slower, never too fast
                permits.give_back()
