"""The SMTP sessions of a process: leased per node over the cluster, reused, closed when idle.

A session counts against the node's `maxConnections` from before it is opened until after it is closed; a background
thread renews the leases every third of their time, and never waits for an SMTP server. Sessions are not owned by
threads: whoever needs one takes an idle one.

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
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.refusals import Refusals
from postfleet_workers.mail.smtp import SmtpSession
from postfleet_workers.throttling.sessions import SessionLeases

log = structlog.get_logger(__name__)

IDLE_SECONDS = 30.0
ASK_AGAIN_SECONDS = 0.25

Connect = Callable[[NodeSpec, Login | None], SmtpSession]


@dataclass(slots=True, eq=False)
class Held:
    """A leased session. `lost` once its lease went elsewhere: it is closed when it comes back."""

    id: str
    node: NodeSpec
    login: Login | None
    session: SmtpSession
    idle_since: float = 0.0
    lost: bool = False

    @property
    def fit(self) -> bool:
        """Whether it may take another mail."""
        return self.session.usable and not self.lost and self.session.delivered < self.node.messages_per_connection


class Sessions:
    """The process' sessions. Close it at the end; used by all threads.

    Args:
        leases: who may hold a connection, over the cluster.
        connect: opens a session.
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
        self._idle: dict[str, list[Held]] = {}
        self._leased: dict[str, str] = {}  # session id -> node, also while it is being opened
        self._busy: dict[str, Held] = {}
        self._spare: dict[str, list[str]] = {}  # node -> ids of leases without a connection
        self._closing = threading.Event()
        self._closed = threading.Event()
        self._keeper: threading.Thread | None = None

    def take(self, node: NodeSpec, wait_seconds: float) -> Held | None:
        """An open session of the node, idle or new; None if none came free in time.

        Raises:
            SmtpFault: a new one could not be opened, or could not a moment ago (`refusals`).
            PipeUnavailable: Redis does not answer.
        """
        login = self._credentials.of(node.name) if node.login else None
        deadline = self._monotonic() + wait_seconds
        while True:
            if (held := self._reuse(node, login)) or (held := self._try_open(node, login)):
                return held
            left = deadline - self._monotonic()
            if left <= 0 or self._closing.is_set():
                return None
            with self._changed:
                if not self._idle.get(node.name) and not self._spare.get(node.name):
                    self._changed.wait(min(left, ASK_AGAIN_SECONDS))

    def give_back(self, held: Held) -> None:
        """Return a session: kept for the next mail if it is fit, else closed."""
        with self._changed:
            self._busy.pop(held.id, None)
            if held.fit and not self._closing.is_set():
                held.idle_since = self._monotonic()
                self._idle.setdefault(held.node.name, []).append(held)
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
        self._release([(held.node.name, held.id) for held in idle] + spare)
        self._note_end()

    def keep(self) -> None:
        """Renew every lease, then close what is idle for too long or no longer ours; the background thread's step."""
        with self._changed:
            leased = [(node, session_id) for session_id, node in self._leased.items()]
        lost: set[str] = set()
        registering: bool | None = None  # unknown while Redis is away
        try:
            lost = {session_id for _, session_id in self._leases.renew([((node,), held) for node, held in leased])}
            registering = self._leases.registering()
        except PipeUnavailable as error:
            log.warning("session_leases_not_renewed", error=str(error))
        stale_before = self._monotonic() - self._idle_seconds
        ended: list[Held] = []
        with self._changed:
            for session_id in lost & self._busy.keys():
                self._busy[session_id].lost = True
            for node, waiting in self._idle.items():
                ended += [h for h in waiting if h.id in lost or (h.idle_since <= stale_before and not registering)]
                self._idle[node] = [held for held in waiting if held not in ended]
            spare = self._take_spare(lambda session_id: session_id in lost or registering is False)
        for held in ended:
            held.session.leave()
        self._release([(held.node.name, held.id) for held in ended] + spare)

    def _reuse(self, node: NodeSpec, login: Login | None) -> Held | None:
        while True:
            with self._changed:
                waiting = self._idle.get(node.name)
                if not waiting:
                    return None
                held = waiting.pop()
                self._busy[held.id] = held
            same = held.node.endpoint == node.endpoint and held.login == login
            if same and held.session.alive():
                held.node = node  # limits may have changed
                return held
            with self._changed:
                self._busy.pop(held.id, None)
            self._replace(held)

    def _try_open(self, node: NodeSpec, login: Login | None) -> Held | None:
        told = True
        try:
            held = self._refusals.attempt(node, login, lambda: self._open(node, login))
            told = held is not None
            return held
        finally:
            if told:  # by the server; whoever waited to see whether the login works need not wait on
                with self._changed:
                    self._changed.notify_all()

    def _open(self, node: NodeSpec, login: Login | None) -> Held | None:
        session_id = self._lease(node)
        if session_id is None:
            return None
        try:
            session = self._connect(node, login)
        except BaseException:
            self._give_up(session_id, node.name)
            raise
        held = Held(session_id, node, login, session)
        with self._changed:
            self._busy[session_id] = held
        return held

    def _lease(self, node: NodeSpec) -> str | None:
        with self._changed:
            if spare := self._spare.get(node.name):
                return spare.pop()
        session_id = uuid.uuid4().hex
        if not self._leases.acquire([(node.name, node.max_connections)], session_id):
            return None
        with self._changed:
            self._leased[session_id] = node.name
            self._start_keeper()
        return session_id

    def _replace(self, held: Held) -> None:
        """Close a session that may have a successor."""
        if held.lost:  # another process has its place already
            held.session.leave()
            self._release([(held.node.name, held.id)])
        else:
            held.session.close()
            self._give_up(held.id, held.node.name)

    def _give_up(self, session_id: str, node: str) -> None:
        """Release a lease without a connection; spare it if no other would be had for it now."""
        if not self._closing.is_set() and self._registering():
            with self._changed:
                if not self._closing.is_set():
                    self._spare.setdefault(node, []).append(session_id)
                    self._changed.notify_all()
                    return
        self._release([(node, session_id)])

    def _registering(self) -> bool:
        try:
            return self._leases.registering()
        except PipeUnavailable:
            return True  # `keep` releases it when Redis is back

    def _take_spare(self, unwanted: Callable[[str], bool]) -> list[tuple[str, str]]:
        taken = [(node, spare) for node, ids in self._spare.items() for spare in ids if unwanted(spare)]
        for node, spare in taken:
            self._spare[node].remove(spare)
        return taken

    def _release(self, leases: Sequence[tuple[str, str]]) -> None:
        with self._changed:
            for _, session_id in leases:
                self._leased.pop(session_id, None)
        try:
            for node, session_id in leases:
                self._leases.release((node,), session_id)
        except PipeUnavailable as error:
            log.warning("session_leases_not_released", error=str(error))  # they lapse by themselves
        with self._changed:
            self._changed.notify_all()

    def _note_end(self) -> None:
        with self._changed:
            if self._closing.is_set() and not self._busy:
                self._closed.set()

    def _start_keeper(self) -> None:
        if self._keeper is None and not self._closing.is_set():
            self._keeper = threading.Thread(target=self._keep_on, name="smtp-sessions", daemon=True)
            self._keeper.start()

    def _keep_on(self) -> None:
        period = min(self._leases.lease_seconds / 3, self._idle_seconds / 2)
        while not self._closed.wait(period):
            try:
                self.keep()
            except Exception:  # without renewals others would take the places of open connections
                log.exception("session_keeper_failed")
