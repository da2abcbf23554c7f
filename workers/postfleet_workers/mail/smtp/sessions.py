"""The SMTP sessions of a process: leased per node and site over the cluster, reused, closed when idle.

A session counts against the node's `maxConnections`, and the site's where it has one, from before it is opened until
after it is closed; a background thread renews the leases every third of their time, and never waits for an SMTP server.
Sessions are not owned by threads: whoever needs one takes an idle one to the same destination. Where all places are
taken, an idle session to another destination makes room.

While no new session is leased because Redis lost its data, idle sessions are not closed (and see `leasing`).
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog

from postfleet_workers.mail.credentials import Credentials, Login
from postfleet_workers.mail.errors import SmtpFault
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.smtp.exchange import OWN_SERVER, Destination
from postfleet_workers.mail.smtp.leasing import Leasing, Names, names_of
from postfleet_workers.mail.smtp.refusals import Refusals
from postfleet_workers.mail.smtp.session import SmtpSession
from postfleet_workers.throttling.sessions import Place, SessionLeases, at_site

log = structlog.get_logger(__name__)

IDLE_SECONDS = 30.0
DIRECT_IDLE_SECONDS = 5.0  # other processes wait for the place, and receivers do not like to be kept
ASK_AGAIN_SECONDS = 0.25
NO_MORE_SECONDS = 30.0

Connect = Callable[[NodeSpec, Destination, Login | None], SmtpSession]
Lane = tuple[str, tuple[str, ...]]  # node and destination: what one session may serve


@dataclass(slots=True, eq=False)
class Held:
    """A leased session. `lost` once its lease went elsewhere: it is closed when it comes back."""

    id: str
    node: NodeSpec
    destination: Destination
    login: Login | None
    session: SmtpSession
    places: Names
    idle_since: float = 0.0
    lost: bool = False

    @property
    def fit(self) -> bool:
        """Whether it may take another mail."""
        most = self.node.messages_per_connection
        if (of_site := self.destination.limits.messages_per_connection) is not None:
            most = min(most, of_site)
        return self.session.usable and not self.lost and self.session.delivered < most

    @property
    def lane(self) -> Lane:
        """Whose mail for which destination may go over it."""
        return lane_of(self.node, self.destination)

    def serves(self, node: NodeSpec, destination: Destination = OWN_SERVER) -> bool:
        """Whether mail of the node for this destination may go over it."""
        return self.node.name == node.name and (
            self.destination is destination or self.destination.key == destination.key
        )


class Sessions:
    """The process' sessions. Close it at the end; used by all threads.

    Args:
        leases: who may hold a connection, over the cluster.
        connect: opens a session with a destination, from its node.
        connect_another: the same for one beside others, which nobody can need so much that it is long waited for.
        credentials: logins of the nodes.
        monotonic: a monotonic clock, in seconds.
        idle_seconds: an idle session is closed after this long, one with a recipient's server sooner.
        jitter: uniform in [0, 1).
    """

    def __init__(
        self,
        leases: SessionLeases,
        connect: Connect,
        credentials: Credentials,
        *,
        monotonic: Callable[[], float],
        idle_seconds: float = IDLE_SECONDS,
        jitter: Callable[[], float] = random.random,
        connect_another: Connect | None = None,
    ) -> None:
        self._leasing = Leasing(leases)
        self._connect = connect
        self._connect_another = connect_another or connect
        self._no_more: dict[Lane, float] = {}  # until when a server is not asked for another
        self._credentials = credentials
        self._monotonic = monotonic
        self._idle_seconds = idle_seconds
        self._keep_seconds = min(leases.lease_seconds / 3, idle_seconds / 2, DIRECT_IDLE_SECONDS / 2)
        self._refusals = Refusals(monotonic, jitter)
        self._changed = threading.Condition()
        self._idle: dict[Lane, list[Held]] = {}
        self._busy: dict[str, Held] = {}
        self._waiting: Counter[str] = Counter()  # threads, by node
        self._left: list[str] = []  # ids of sessions that said QUIT a moment ago
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def take(self, node: NodeSpec, wait_seconds: float, destination: Destination = OWN_SERVER) -> Held | None:
        """An open session of the node to the destination, idle or new; None if none came free in time.

        Raises:
            SmtpFault: a new one could not be opened, or could not a moment ago (`refusals`, `absences`).
            PipeUnavailable: Redis does not answer.
        """
        login = self._login(node)
        if held := self._take_now(node, destination, login):
            return held
        deadline = self._monotonic() + wait_seconds
        self._wait_by(node, 1)
        try:
            while (left := deadline - self._monotonic()) > 0 and not self._closing.is_set():
                with self._changed:
                    if not self._idle.get(lane_of(node, destination)) and not self._leasing.has_spare(
                        _places(node, destination)
                    ):
                        self._changed.wait(min(left, ASK_AGAIN_SECONDS))
                if held := self._take_now(node, destination, login):
                    return held
        finally:
            self._wait_by(node, -1)
        return None

    def take_another(self, node: NodeSpec, destination: Destination = OWN_SERVER) -> Held | None:
        """One beside a session that the caller has: if nobody waits for a first one, and half of the places are free.

        A server that does not let us in once more is not asked again for a while. It may be that it takes so many and
        no more, which says nothing about the node or the server.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        lane, places = lane_of(node, destination), _places(node, destination, another=True)
        if self.awaited(node) or not self._less_than(places) or self._no_more.get(lane, 0.0) > self._monotonic():
            return None
        login = self._login(node)
        if held := self._reuse(node, destination, login):
            return held
        try:
            return self._open(node, destination, login, another=True)
        except SmtpFault as fault:
            log.info("no_further_session", node=node.name, site=destination.site, error=str(fault))
            now = self._monotonic()
            self._no_more = {other: until for other, until in self._no_more.items() if until > now}
            self._no_more[lane] = now + NO_MORE_SECONDS
            return None

    def _take_now(self, node: NodeSpec, destination: Destination, login: Login | None) -> Held | None:
        return self._reuse(node, destination, login) or self._try_open(node, destination, login)

    def _less_than(self, places: Iterable[Place]) -> bool:
        """Whether this process works with fewer sessions than that."""
        with self._changed:
            busy = list(self._busy.values())
        return all(sum(name in held.places for held in busy) < most for name, most in places)

    def _wait_by(self, node: NodeSpec, threads: int) -> None:
        with self._changed:
            self._waiting[node.name] += threads

    def awaited(self, node: NodeSpec) -> bool:
        """Whether somebody waits for a session of the node."""
        return self._waiting[node.name] > 0

    def give_back(self, held: Held) -> None:
        """Return a session: kept for the next mail if it is fit, else closed."""
        with self._changed:
            self._busy.pop(held.id, None)
            if held.fit and not self._closing.is_set():
                held.idle_since = self._monotonic()
                self._put_idle(held)
                self._changed.notify_all()
                return
        self._replace(held)
        self._note_end()

    def close(self) -> None:
        """Close the idle sessions now and the busy ones when they come back; renew these until then."""
        self._closing.set()
        with self._changed:
            idle = [held for waiting in self._idle.values() for held in waiting]
            self._idle.clear()
            left, self._left = self._left, []
        self._leasing.close()
        self._leasing.release(left)
        self._end(idle)
        self._note_end()

    def keep(self) -> None:
        """Renew every lease, then close what is idle for too long or no longer ours; the background thread's step.

        A session's place is free at the next step: the server needs a moment to see that we left.
        """
        lost, registering = self._leasing.renew()
        now = self._monotonic()
        with self._changed:
            for session_id in lost & self._busy.keys():
                self._busy[session_id].lost = True
            idle = [held for waiting in self._idle.values() for held in waiting]
            ended = [held for held in idle if held.id in lost or (self._stale(held, now) and not registering)]
            for held in ended:
                self._take_idle(held)
            left, self._left = self._left, [held.id for held in ended]
        for held in ended:
            held.session.leave()
        self._leasing.release(left)
        self._notify()

    def _stale(self, held: Held, now: float) -> bool:
        most = min(self._idle_seconds, DIRECT_IDLE_SECONDS) if held.node.direct else self._idle_seconds
        return now - held.idle_since >= most

    def _login(self, node: NodeSpec) -> Login | None:
        return self._credentials.of(node.name) if node.login and not node.direct else None

    def _reuse(self, node: NodeSpec, destination: Destination, login: Login | None) -> Held | None:
        while True:
            with self._changed:
                waiting = self._idle.get(lane_of(node, destination))
                if not waiting:
                    return None
                held = waiting[-1]
                self._take_idle(held)
                self._busy[held.id] = held
            same = held.node.endpoint == node.endpoint and held.login == login
            if same and held.session.alive():
                held.node, held.destination = node, destination  # limits may have changed
                return held
            with self._changed:
                self._busy.pop(held.id, None)
            self._replace(held)

    def _try_open(self, node: NodeSpec, destination: Destination, login: Login | None) -> Held | None:
        if node.direct:  # no login to protect; servers that are away are remembered one by one (`absences`)
            return self._open(node, destination, login)
        told = True
        try:
            held = self._refusals.attempt(node, login, lambda: self._open(node, destination, login))
            told = held is not None
            return held
        finally:
            if told:  # by the server; whoever waited to see whether the login works need not wait on
                self._notify()

    def _open(
        self, node: NodeSpec, destination: Destination, login: Login | None, *, another: bool = False
    ) -> Held | None:
        places = _places(node, destination, another)
        session_id = self._leasing.take(places)
        if session_id is None and not another:
            session_id = self._inherit(node, destination, places)
        if session_id is None:
            return None
        self._start_keeper()
        try:
            session = (self._connect_another if another else self._connect)(node, destination, login)
        except BaseException:
            self._leasing.spare(session_id)
            self._notify()
            raise
        held = Held(session_id, node, destination, login, session, names_of(places))
        with self._changed:
            self._busy[session_id] = held
        return held

    def _inherit(self, node: NodeSpec, destination: Destination, places: list[Place]) -> str | None:
        """The lease of an idle session to another destination, which is closed for it; None where it is of no use."""
        names = names_of(places)
        with self._changed:
            idle = [held for (name, _), waiting in self._idle.items() if name == node.name for held in waiting]
            if not idle or lane_of(node, destination) in self._idle:  # one came back just now
                return None
            held = min(idle, key=lambda held: (held.places != names, held.idle_since))
            self._take_idle(held)
            self._busy[held.id] = held
        moved = False
        try:
            moved = self._leasing.move(held.id, places)
        finally:
            with self._changed:
                self._busy.pop(held.id, None)
                if not moved:
                    self._put_idle(held, first=True)
        if not moved:
            return None
        held.session.close()
        return held.id

    def _replace(self, held: Held) -> None:
        """Close a session that may have a successor."""
        if held.lost:  # another process has its place already
            self._end([held])
        else:
            held.session.close()
            self._leasing.spare(held.id)
            self._notify()

    def _end(self, sessions: Iterable[Held]) -> None:
        """Close sessions for good, waiting for nobody."""
        ended = list(sessions)
        for held in ended:
            held.session.leave()
        self._leasing.release([held.id for held in ended])
        self._notify()

    def _put_idle(self, held: Held, *, first: bool = False) -> None:
        waiting = self._idle.setdefault(held.lane, [])
        waiting.insert(0 if first else len(waiting), held)

    def _take_idle(self, held: Held) -> None:
        lane = held.lane
        self._idle[lane].remove(held)
        if not self._idle[lane]:
            del self._idle[lane]

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def _note_end(self) -> None:
        with self._changed:
            if self._closing.is_set() and not self._busy:
                self._closed.set()

    def _start_keeper(self) -> None:
        with self._changed:
            if self._keeper is None and not self._closing.is_set():
                self._keeper = threading.Thread(target=self._keep_on, name="smtp-sessions", daemon=True)
                self._keeper.start()

    def _keep_on(self) -> None:
        while not self._closed.wait(self._keep_seconds):
            try:
                self.keep()
            except Exception:  # without renewals others would take the places of open connections
                log.exception("session_keeper_failed")


def lane_of(node: NodeSpec, destination: Destination) -> Lane:
    """What one session may serve."""
    return node.name, destination.key


def _places(node: NodeSpec, destination: Destination, another: bool = False) -> list[Place]:
    """What a session counts against. For one beside another half of the places do not exist."""
    places = [(node.name, node.max_connections)]
    if (most := destination.limits.max_connections) is not None:
        places.append((at_site(node.name, destination.site), most))
    return [(name, max(1, most // 2)) for name, most in places] if another else places
