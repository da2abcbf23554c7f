"""The SMTP sessions of a process: leased per node and site over the cluster, reused, closed when idle.

A session counts against the node's `maxConnections`, and the site's where it has one, from before it is opened until
after it is closed; a background thread renews the leases every third of their time, and never waits for an SMTP server.
Sessions are not owned by threads: whoever needs one takes an idle one to the same destination. Where all places are
taken, an idle session to another destination makes room.

While no new session is leased because Redis lost its data, what this process holds stays in use: idle sessions are not
closed, and the lease of a connection that ended is spared for its successor. Neither opens a connection more.
"""

from __future__ import annotations

import random
import threading
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import structlog

from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.mail.credentials import Credentials, Login
from postfleet_workers.mail.exchange import OWN_SERVER, Destination
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.refusals import Refusals
from postfleet_workers.mail.smtp import SmtpSession
from postfleet_workers.throttling.sessions import Place, SessionLeases, at_site

log = structlog.get_logger(__name__)

IDLE_SECONDS = 30.0
DIRECT_IDLE_SECONDS = 5.0  # other processes wait for the place, and receivers do not like to be kept
ASK_AGAIN_SECONDS = 0.25

Connect = Callable[[NodeSpec, Destination, Login | None], SmtpSession]
Lane = tuple[str, tuple[str, ...]]  # node and destination: what one session may serve
Lease = tuple[tuple[str, ...], str]  # the places that a session counts against, and its id


@dataclass(slots=True, eq=False)
class Held:
    """A leased session. `lost` once its lease went elsewhere: it is closed when it comes back."""

    id: str
    node: NodeSpec
    destination: Destination
    login: Login | None
    session: SmtpSession
    places: tuple[str, ...]
    idle_since: float = 0.0
    lost: bool = False

    @property
    def fit(self) -> bool:
        """Whether it may take another mail."""
        most = self.node.messages_per_connection
        if (of_site := self.destination.limits.messages_per_connection) is not None:
            most = min(most, of_site)
        return self.session.usable and not self.lost and self.session.delivered < most

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
        credentials: logins of the nodes.
        monotonic: a monotonic clock, in seconds.
        idle_seconds: an idle session is closed after this long.
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
    ) -> None:
        self._leases = leases
        self._connect = connect
        self._credentials = credentials
        self._monotonic = monotonic
        self._idle_seconds = idle_seconds
        self._refusals = Refusals(monotonic, jitter)
        self._changed = threading.Condition()
        self._idle: dict[Lane, list[Held]] = {}
        self._leased: dict[str, tuple[str, ...]] = {}  # session id -> its places, also while it is being opened
        self._busy: dict[str, Held] = {}
        self._spare: dict[tuple[str, ...], list[str]] = {}  # places -> ids of leases without a connection
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def take(self, node: NodeSpec, wait_seconds: float, destination: Destination = OWN_SERVER) -> Held | None:
        """An open session of the node to the destination, idle or new; None if none came free in time.

        Raises:
            SmtpFault: a new one could not be opened, or could not a moment ago (`refusals`, `absences`).
            PipeUnavailable: Redis does not answer.
        """
        login = self._credentials.of(node.name) if node.login and not node.direct else None
        lane = node.name, destination.key
        deadline = self._monotonic() + wait_seconds
        while True:
            if (held := self._reuse(node, destination, login)) or (held := self._try_open(node, destination, login)):
                return held
            left = deadline - self._monotonic()
            if left <= 0 or self._closing.is_set():
                return None
            with self._changed:
                if not self._idle.get(lane) and not self._spare.get(_names(_places(node, destination))):
                    self._changed.wait(min(left, ASK_AGAIN_SECONDS))

    def give_back(self, held: Held) -> None:
        """Return a session: kept for the next mail if it is fit, else closed."""
        with self._changed:
            self._busy.pop(held.id, None)
            if held.fit and not self._closing.is_set():
                held.idle_since = self._monotonic()
                self._idle.setdefault((held.node.name, held.destination.key), []).append(held)
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
            spare = self._take_spare(lambda _: True)
            self._changed.notify_all()
        for held in idle:
            held.session.leave()
        self._release([(held.places, held.id) for held in idle] + spare)
        self._note_end()

    def keep(self) -> None:
        """Renew every lease, then close what is idle for too long or no longer ours; the background thread's step."""
        with self._changed:
            leased = [(places, session_id) for session_id, places in self._leased.items()]
        lost: set[str] = set()
        registering: bool | None = None  # unknown while Redis is away
        try:
            lost = {session_id for _, session_id in self._leases.renew(leased)}
            registering = self._leases.registering()
        except PipeUnavailable as error:
            log.warning("session_leases_not_renewed", error=str(error))
        now = self._monotonic()
        ended: list[Held] = []
        with self._changed:
            for session_id in lost & self._busy.keys():
                self._busy[session_id].lost = True
            for lane, waiting in list(self._idle.items()):
                over = [held for held in waiting if held.id in lost or (self._stale(held, now) and not registering)]
                ended += over
                self._idle[lane] = [held for held in waiting if held not in over]
                if not self._idle[lane]:
                    del self._idle[lane]
            spare = self._take_spare(lambda session_id: session_id in lost or registering is False)
        for held in ended:
            held.session.leave()
        self._release([(held.places, held.id) for held in ended] + spare)

    def _stale(self, held: Held, now: float) -> bool:
        most = min(self._idle_seconds, DIRECT_IDLE_SECONDS) if held.node.direct else self._idle_seconds
        return now - held.idle_since >= most

    def _reuse(self, node: NodeSpec, destination: Destination, login: Login | None) -> Held | None:
        lane = node.name, destination.key
        while True:
            with self._changed:
                waiting = self._idle.get(lane)
                if not waiting:
                    return None
                held = waiting.pop()
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
                with self._changed:
                    self._changed.notify_all()

    def _open(self, node: NodeSpec, destination: Destination, login: Login | None) -> Held | None:
        places = _places(node, destination)
        session_id = self._lease(node, destination, places)
        if session_id is None:
            return None
        try:
            session = self._connect(node, destination, login)
        except BaseException:
            self._give_up(session_id, _names(places))
            raise
        held = Held(session_id, node, destination, login, session, _names(places))
        with self._changed:
            self._busy[session_id] = held
        return held

    def _lease(self, node: NodeSpec, destination: Destination, places: Sequence[Place]) -> str | None:
        names = _names(places)
        with self._changed:
            if spare := self._spare.get(names):
                return spare.pop()
        session_id = uuid.uuid4().hex
        if not self._leases.acquire(places, session_id):
            return self._inherit(node, destination, places)
        with self._changed:
            self._leased[session_id] = names
            self._start_keeper()
        return session_id

    def _inherit(self, node: NodeSpec, destination: Destination, places: Sequence[Place]) -> str | None:
        """The lease of an idle session to another destination, which is closed for it; None where it is of no use."""
        names = _names(places)
        with self._changed:
            idle = [held for (name, _), waiting in self._idle.items() if name == node.name for held in waiting]
            if not idle or self._idle.get((node.name, destination.key)):  # one came back just now
                return None
            held = min(idle, key=lambda held: (held.places != names, held.idle_since))
            self._remove_idle(held)
            self._busy[held.id] = held
        try:
            inherited = self._leases.acquire(places, held.id)
        except BaseException:
            self.give_back(held)
            raise
        with self._changed:
            self._busy.pop(held.id, None)
            if not inherited:
                self._idle.setdefault((held.node.name, held.destination.key), []).insert(0, held)
                return None
            self._leased[held.id] = names
        held.session.leave()
        self._release_places([(tuple(place for place in held.places if place not in names), held.id)])
        return held.id

    def _remove_idle(self, held: Held) -> None:
        lane = held.node.name, held.destination.key
        self._idle[lane].remove(held)
        if not self._idle[lane]:
            del self._idle[lane]

    def _replace(self, held: Held) -> None:
        """Close a session that may have a successor."""
        if held.lost:  # another process has its place already
            held.session.leave()
            self._release([(held.places, held.id)])
        else:
            held.session.close()
            self._give_up(held.id, held.places)

    def _give_up(self, session_id: str, places: tuple[str, ...]) -> None:
        """Release a lease without a connection; spare it if no other would be had for it now."""
        if not self._closing.is_set() and self._registering():
            with self._changed:
                if not self._closing.is_set():
                    self._spare.setdefault(places, []).append(session_id)
                    self._changed.notify_all()
                    return
        self._release([(places, session_id)])

    def _registering(self) -> bool:
        try:
            return self._leases.registering()
        except PipeUnavailable:
            return True  # `keep` releases it when Redis is back

    def _take_spare(self, unwanted: Callable[[str], bool]) -> list[Lease]:
        taken = [(places, spare) for places, ids in self._spare.items() for spare in ids if unwanted(spare)]
        for places, spare in taken:
            self._spare[places].remove(spare)
            if not self._spare[places]:
                del self._spare[places]
        return taken

    def _release(self, leases: Sequence[Lease]) -> None:
        with self._changed:
            for _, session_id in leases:
                self._leased.pop(session_id, None)
        self._release_places(leases)
        with self._changed:
            self._changed.notify_all()

    def _release_places(self, leases: Sequence[Lease]) -> None:
        try:
            for places, session_id in leases:
                if places:
                    self._leases.release(places, session_id)
        except PipeUnavailable as error:
            log.warning("session_leases_not_released", error=str(error))  # they lapse by themselves

    def _note_end(self) -> None:
        with self._changed:
            if self._closing.is_set() and not self._busy:
                self._closed.set()

    def _start_keeper(self) -> None:
        if self._keeper is None and not self._closing.is_set():
            self._keeper = threading.Thread(target=self._keep_on, name="smtp-sessions", daemon=True)
            self._keeper.start()

    def _keep_on(self) -> None:
        period = min(self._leases.lease_seconds / 3, self._idle_seconds / 2, DIRECT_IDLE_SECONDS / 2)
        while not self._closed.wait(period):
            try:
                self.keep()
            except Exception:  # without renewals others would take the places of open connections
                log.exception("session_keeper_failed")


def _places(node: NodeSpec, destination: Destination) -> list[Place]:
    """What a session counts against."""
    places = [(node.name, node.max_connections)]
    if (most := destination.limits.max_connections) is not None:
        places.append((at_site(node.name, destination.site), most))
    return places


def _names(places: Sequence[Place]) -> tuple[str, ...]:
    return tuple(name for name, _ in places)
