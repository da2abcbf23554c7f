"""One bundle of emails, delivered in order: load, where each goes, make it, a session, admission, send it.

What has begun together goes out together, as far as there are sessions and permits. Nothing here decides what a reply
means (`outcome`), what else a failure holds up (`obstacles`) or keeps a connection (`sessions`). A mail is put back,
never dropped, when something it needs is missing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace

import structlog
from sqlalchemy import Engine

from postfleet_workers.errors import InputError, PermanentError, PipeUnavailable, StoreUnavailable
from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Run, Snooze, Transient
from postfleet_workers.mail.admission import sessions_at
from postfleet_workers.mail.directory import Directory
from postfleet_workers.mail.errors import ConnectionLost, SmtpFault
from postfleet_workers.mail.holdings import Holdings
from postfleet_workers.mail.letter import Letter
from postfleet_workers.mail.message.press import Press, Supplies
from postfleet_workers.mail.obstacles import SESSION_WAIT_SECONDS, Obstacles
from postfleet_workers.mail.parcels import Parcel, Store
from postfleet_workers.mail.permits import HOLD_SECONDS, is_near
from postfleet_workers.mail.replies.outcome import (
    OVER,
    MailRecord,
    Schedule,
    Status,
    Target,
    failed,
    outcome_of_reply,
)
from postfleet_workers.mail.replies.reply import NO_ANSWER, Phase, to_detail
from postfleet_workers.mail.smtp.exchange import Destination, Exchanges
from postfleet_workers.mail.smtp.sessions import Held, Sessions
from postfleet_workers.mail.smtp.transactions import Transaction, carry_out
from postfleet_workers.placement import SHARED, node_of
from postfleet_workers.store.session import statements
from postfleet_workers.throttling.limiter import Limiter

log = structlog.get_logger(__name__)

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
        exchanges: where each mail goes.
        monotonic: a monotonic clock, in seconds.
        jitter: uniform in [0, 1).
        pause: waits so many seconds, for a permit that is nearly due.
        schedule: when deferred mail is tried again.
        place: whose workers these are, `shared` or a Dedicated node's name.
        session_wait_seconds: how long a bundle waits for a session while all are taken.
        directory: campaigns, nodes and tenants, kept for seconds.
        supplies: what mails are made with.
        at_once: most mails that one thread sends at once, each over a session of its own.
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
    at_once: int = 1


@dataclass(frozen=True, slots=True, eq=False)
class Flight:
    """A mail on its way. `used`: its session has carried others."""

    letter: Letter
    held: Held
    used: bool
    transaction: Transaction


class Delivery:
    """The state of one bundle's run. Used once, by one thread."""

    def __init__(self, deps: Deps, jobs: Sequence[Job], run: Run) -> None:
        self._deps = deps
        self._jobs = jobs
        self._run = run
        self._press = Press(deps.supplies)
        self._obstacles = Obstacles(deps.schedule, deps.jitter, run.now)
        self._holdings = Holdings(deps.sessions, deps.limiter, deps.monotonic, deps.pause, deps.session_wait_seconds)
        self._found: dict[int, Outcome] = {}
        self._noted: set[int] = set()  # the journal says how these ended, or that their dot went out

    def outcomes(self) -> Generator[Outcome, None, None]:
        """One outcome per job, in order."""
        try:
            parcels = self._load()
        except StoreUnavailable as error:
            for _ in self._jobs:
                yield HandBack(f"PostgreSQL is away: {error}")
            return
        self._holdings.expect(parcels.values())
        try:
            left = len(self._jobs)
            while left:
                lot = self._run.begun()
                left -= len(lot)
                self._deliver(lot, parcels)
                for job in lot:
                    yield self._found[job.id]
        finally:
            self._holdings.give_back()

    def _load(self) -> dict[int, Parcel]:
        deps = self._deps
        with statements(deps.engine) as connection:
            store = Store(deps.directory, deps.place, deps.supplies.key)
            return store.load(connection, self._jobs, deps.monotonic(), self._run.now().date())

    def _deliver(self, lot: Sequence[Job], parcels: Mapping[int, Parcel]) -> None:
        """Find the outcomes of what has begun together, as many at a time as there are sessions and permits for."""
        letters: deque[Letter] = deque()
        for job in lot:
            parcel = parcels.get(job.id)
            if parcel is None:
                self._found[job.id] = failed(node_of(job.route), Phase.CONNECT, f"job {job.id} has no email")
            elif parcel.row.status in OVER:
                self._holdings.count(parcel)
                self._found[job.id] = Done()
            else:
                try:
                    found = self._address(job, parcel)
                except Exception as error:  # noqa: BLE001 - see _blame
                    found = self._blame(job, parcel, error)
                if isinstance(found, Letter):
                    letters.append(found)
                else:
                    self._end(job, parcel, found)
        flown = False
        while letters:
            if flown:
                self._tell()
            if flown and self._run.stopping():
                for letter in letters:
                    self._close(letter, HandBack("not begun"))
                return
            self._fly(self._board(letters), letters)
            flown = True

    def _address(self, job: Job, parcel: Parcel) -> Letter | Outcome:
        """Where the mail goes; or why it goes nowhere now."""
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
            history = self._obstacles.history(parcel)
            return outcome_of_reply(destination, Phase.CONNECT, Target(name), history, self._deps.schedule)
        slowed = node.slowed_at(destination.site)
        if slowed.connections is not None:
            destination = replace(destination, limits=sessions_at(destination.limits, slowed))
        letter = Letter(job, parcel, node, destination)
        if slowed.suspended:
            reason = f"node {name} at {destination.site} {slowed.suspended}"
            return self._obstacles.wait(letter, slowed.wait_seconds, reason)
        return letter

    def _board(self, letters: deque[Letter]) -> list[Flight]:
        """The first of the letters on their way, each over a session of its own; the others go with the next flights.

        Sessions come first and admission last, right before MAIL: no permit is spent on a failed connection, or gets
        old. The first mail waits for either if it must, the others do not.
        """
        self._holdings.keep_sessions({letter.lane for letter in letters})
        seated: deque[tuple[Letter, Held]] = deque()
        while letters and not (seated and seated[0][0].big):
            letter = letters[0]
            held = self._seat(letter, first=not seated)
            if held is not None:
                seated.append((letter, held))
            elif letter.job.id not in self._found:
                break
            letters.popleft()
        flights: list[Flight] = []
        while seated:
            letter, held = seated[0]
            if self._is_admitted(letter) or self._admit(letter, first=not flights):
                flights.append(_start(letter, held))
            elif letter.job.id in self._found:
                self._holdings.free(held)
            else:
                break
            seated.popleft()
        for letter, held in reversed(seated):
            letters.appendleft(letter)
            self._holdings.free(held)
        return flights

    def _seat(self, letter: Letter, *, first: bool) -> Held | None:
        """A session for the mail, which is made. None: its outcome is found, or it waits for the next flights."""
        if outcome := self._obstacles.before(letter):
            self._close(letter, outcome)
            return None
        held = None
        try:
            if letter.mail is None:
                letter.mail = self._press.make(letter.parcel, letter.node, self._run.now())
            if first or not letter.big:
                held = self._holdings.session(letter, wait=first)
        except SmtpFault as fault:
            self._close(letter, self._obstacles.fault(letter, fault))
        except PipeUnavailable as error:
            self._close(letter, self._obstacles.redis_away(error))
        except Exception as error:  # noqa: BLE001 - see _blame
            self._close(letter, self._blame(letter.job, letter.parcel, error))
        else:
            if held is None and first:
                self._close(letter, self._without_session(letter))
        return held

    def _without_session(self, letter: Letter) -> Outcome:
        if letter.retried:
            lost = ConnectionLost(Phase.MAIL, "the session ended, and no other is free")
            return self._obstacles.fault(letter, lost)
        return self._obstacles.no_session(letter)

    def _is_admitted(self, letter: Letter) -> bool:
        """Whether a mail that comes again may use the permit that it has."""
        if letter.permits and self._deps.monotonic() - letter.admitted_at > HOLD_SECONDS:
            self._give_permit_back(letter)
        return letter.permits is not None

    def _admit(self, letter: Letter, *, first: bool) -> bool:
        """Whether the mail has its permit. If not, its outcome is found, or it waits for the next flights."""
        try:
            permits = self._holdings.permits(letter)
            refused = permits.take(lambda: self._holdings.alike(letter), patient=first)
        except PipeUnavailable as error:
            self._close(letter, self._obstacles.redis_away(error))
            return False
        except Exception as error:  # noqa: BLE001 - see _blame
            self._close(letter, self._blame(letter.job, letter.parcel, error))
            return False
        if refused is None:
            letter.permits, letter.permit_at = permits, permits.taken_at
            letter.admitted_at = self._deps.monotonic()
            self._holdings.count(letter.parcel)
            return True
        if first or not is_near(refused):
            self._close(letter, self._obstacles.refused(letter, refused))
        return False

    def _fly(self, flights: Sequence[Flight], letters: deque[Letter]) -> None:
        """Carry the transactions out, and find what came of each."""
        of = {flight.transaction: flight for flight in flights}

        def may_dot(transactions: Sequence[Transaction]) -> bool:
            asking = [of[transaction].letter.job for transaction in transactions]
            granted = self._run.dot(*asking)
            if granted:  # from now on only an answer may follow: silence means unknown
                self._noted.update(job.id for job in asking)
            return granted

        def ended(transactions: Sequence[Transaction]) -> None:
            for transaction in transactions:
                self._land(of[transaction], letters)
            if not all(transaction.over for transaction in of):  # the others keep us waiting, but nobody else
                self._tell()
                self._holdings.keep_sessions(())

        carry_out(list(of), may_dot, ended)

    def _land(self, flight: Flight, letters: deque[Letter]) -> None:
        letter = flight.letter
        self._holdings.free(flight.held)
        self._run.took(letter.job, flight.transaction.seconds)
        if flight.used and not letter.retried and flight.transaction.session_had_ended:
            # Servers end a connection after so many mails or seconds, some without a word. That says nothing about this
            # mail: once more, over another.
            letter.retried = True
            letters.appendleft(letter)
        else:
            try:
                self._judge(flight)
            except Exception as error:  # noqa: BLE001 - see _blame
                self._close(letter, self._mistake(letter, error), accepted=letter.job.id in self._noted)

    def _judge(self, flight: Flight) -> None:
        """What came of it."""
        letter, answer, error = flight.letter, flight.transaction.answer, flight.transaction.error
        if answer is not None:
            self._noted.discard(letter.job.id)
            self._note(letter.job, to_detail(answer.phase, answer.reply))
            target = Target(letter.node.name, letter.destination.site, flight.held.session.host)
            history = self._obstacles.history(letter.parcel)
            outcome = outcome_of_reply(answer.reply, answer.phase, target, history, self._deps.schedule)
            self._close(letter, outcome, accepted=answer.reply.accepted or answer.reply.code < 0)
        elif isinstance(error, SmtpFault):
            unknown = isinstance(error, ConnectionLost) and error.phase is Phase.DOT  # it counts as accepted
            self._close(letter, self._obstacles.fault(letter, error), accepted=unknown)
        elif isinstance(error, PipeUnavailable):
            self._close(letter, self._obstacles.redis_away(error))
        elif error is not None:
            raise error
        else:
            self._close(letter, self._obstacles.claim_lost())

    def _mistake(self, letter: Letter, error: Exception) -> Outcome:
        """A mistake of ours on a mail's way; after its dot it is no reason to send it twice."""
        outcome = self._blame(letter.job, letter.parcel, error)
        if letter.job.id in self._noted:
            return self._obstacles.fault(letter, ConnectionLost(Phase.DOT, f"{type(error).__name__}: {error}"))
        return outcome

    @staticmethod
    def _blame(job: Job, parcel: Parcel, error: Exception) -> Outcome:
        """What went wrong with one mail is its own, whatever it is, and leaves those that began with it alone."""
        if isinstance(error, PermanentError | InputError):
            return failed(parcel.row.node, Phase.CONNECT, str(error))
        log.error("job_raised", job_id=job.id, type=job.type, exc_info=error)
        return Transient(f"{type(error).__name__}: {error}")

    def _close(self, letter: Letter, outcome: Outcome, *, accepted: bool = False) -> None:
        self._end(letter.job, letter.parcel, outcome)
        if not accepted:
            self._give_permit_back(letter)

    @staticmethod
    def _give_permit_back(letter: Letter) -> None:
        permits, letter.permits = letter.permits, None
        if permits:
            with suppress(PipeUnavailable):  # what was reserved then counts as accepted: slower, never too fast
                permits.not_accepted(letter.permit_at)

    def _tell(self) -> None:
        with suppress(PipeUnavailable):  # only a crash before the outcomes are written needs it
            self._run.tell()

    def _end(self, job: Job, parcel: Parcel, outcome: Outcome) -> None:
        self._holdings.count(parcel)
        self._note(job, NO_ANSWER)
        self._found[job.id] = outcome

    def _note(self, job: Job, detail: str) -> None:
        """Journal how the mail ended, once: a worker that dies before it is written did not die of this mail."""
        if job.id not in self._noted:
            self._noted.add(job.id)
            with suppress(PipeUnavailable):  # the outcome is written in any case; only a crash before that needs this
                self._run.reply(job, detail)


def _start(letter: Letter, held: Held) -> Flight:
    assert letter.mail is not None  # noqa: S101 - it has a seat
    mail, used = letter.mail, held.session.delivered > 0
    return Flight(letter, held, used, Transaction(held.session, mail.sender, mail.recipient, mail.message))
