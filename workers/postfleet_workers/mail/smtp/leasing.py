"""The leases that this process holds: of open connections, of those being opened, and spare ones.

While no new session is leased because Redis lost its data, the lease of a connection that ended is spared for its
successor at the same places. That opens no connection more.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Sequence

import structlog

from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.throttling.sessions import Place, SessionLeases

log = structlog.get_logger(__name__)

Names = tuple[str, ...]  # of the places that a session counts against
Lease = tuple[Names, str]  # with the session's id


class Leasing:
    """One process' leases; used by all its threads.

    Args:
        leases: who may hold a connection, over the cluster.
    """

    def __init__(self, leases: SessionLeases) -> None:
        self._leases = leases
        self._lock = threading.Lock()
        self._held: dict[str, Names] = {}
        self._spare: dict[Names, list[str]] = {}
        self._closing = False

    def take(self, places: Sequence[Place]) -> str | None:
        """Lease one session of these places, a spare one first: its id; None if none is free.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        names = names_of(places)
        with self._lock:
            if spare := self._spare.get(names):
                return self._pop(names, spare[-1])
        session_id = uuid.uuid4().hex
        if not self._leases.acquire(places, session_id):
            return None
        with self._lock:
            self._held[session_id] = names
        return session_id

    def move(self, session_id: str, places: Sequence[Place]) -> bool:
        """Let a lease count against these places instead of those it has; False where they are taken.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        if not self._leases.acquire(places, session_id):
            return False
        names = names_of(places)
        with self._lock:
            before, self._held[session_id] = self._held[session_id], names
        self._give_back([(tuple(name for name in before if name not in names), session_id)])
        return True

    def spare(self, session_id: str) -> bool:
        """Give a lease without a connection back, or keep it if no other would be had for it now: whether it was."""
        if not self._closing and self._registering():
            with self._lock:
                if not self._closing:
                    self._spare.setdefault(self._held[session_id], []).append(session_id)
                    return True
        self.release([session_id])
        return False

    def has_spare(self, places: Sequence[Place]) -> bool:
        """Whether `take` would find a spare one."""
        return names_of(places) in self._spare

    def release(self, session_ids: Sequence[str]) -> None:
        """Give leases back; should Redis be away, they lapse by themselves."""
        with self._lock:
            leases = [(self._held.pop(session_id, ()), session_id) for session_id in session_ids]
        self._give_back(leases)

    def renew(self) -> tuple[set[str], bool | None]:
        """Renew every lease, spare ones too, and give the spare ones back that are no longer needed.

        Returns:
            The ids of lost leases; and whether holders are registering, None while Redis is away.
        """
        with self._lock:
            leases = [(names, session_id) for session_id, names in self._held.items()]
        lost: set[str] = set()
        registering: bool | None = None
        try:
            lost = {session_id for _, session_id in self._leases.renew(leases)}
            registering = self._leases.registering()
        except PipeUnavailable as error:
            log.warning("session_leases_not_renewed", error=str(error))
        self._drop_spare(lambda session_id: session_id in lost or registering is False)
        return lost, registering

    def close(self) -> None:
        """Spare none any more."""
        self._closing = True
        self._drop_spare(lambda _: True)

    def _drop_spare(self, unwanted: Callable[[str], bool]) -> None:
        with self._lock:
            found = [(names, spare) for names, ids in self._spare.items() for spare in ids if unwanted(spare)]
            dropped = [self._pop(names, spare) for names, spare in found]
        self.release(dropped)

    def _pop(self, names: Names, session_id: str) -> str:
        self._spare[names].remove(session_id)
        if not self._spare[names]:
            del self._spare[names]
        return session_id

    def _registering(self) -> bool:
        try:
            return self._leases.registering()
        except PipeUnavailable:
            return True  # `renew` gives it back when Redis is there again

    def _give_back(self, leases: Sequence[Lease]) -> None:
        try:
            for names, session_id in leases:
                if names:
                    self._leases.release(names, session_id)
        except PipeUnavailable as error:
            log.warning("session_leases_not_released", error=str(error))  # they lapse by themselves


def names_of(places: Sequence[Place]) -> Names:
    """The places' names."""
    return tuple(name for name, _ in places)
