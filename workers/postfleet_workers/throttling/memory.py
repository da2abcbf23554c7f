"""The twins of `redis`: limits and session leases within one process, on a `MemoryEpoch`, by the same arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

from postfleet_workers.epoch import MemoryEpoch
from postfleet_workers.throttling.gcra import SECOND_US, Take, bucket, reckon, retake
from postfleet_workers.throttling.limiter import Admission, judge, refuse, remembered_us
from postfleet_workers.throttling.limits import Limit
from postfleet_workers.throttling.sessions import Place


class MemoryLimiter:
    """A `Limiter` for tests and simulations. It remembers limits for ever, where Redis forgets unused ones."""

    def __init__(self, epoch: MemoryEpoch) -> None:
        self._epoch = epoch

    def acquire(self, limits: Sequence[Limit], n: int) -> Admission:
        """See `Limiter`."""
        with self._epoch.lock:
            now = self._now()
            if self._epoch.current() is None:
                return refuse(limits, n, now)
            admission = judge(limits, n, self._tats, self._since(), now, now)
            if admission.granted > 0:
                self._take(limits, admission.granted, now)
            return admission

    def peek_many(self, asks: Sequence[tuple[Sequence[Limit], int]], horizon_seconds: float) -> list[Admission]:
        """See `Limiter`."""
        with self._epoch.lock:
            now = self._now()
            if self._epoch.current() is None:
                return [refuse(limits, n, now) for limits, n in asks]
            until = now + round(horizon_seconds * SECOND_US)
            return [judge(limits, n, self._tats, self._since(), now, until) for limits, n in asks]

    def give_back(self, limits: Sequence[Limit], n: int, at: int) -> None:
        """See `Limiter`."""
        with self._epoch.lock:
            for limit in limits if n > 0 else ():
                of = bucket(limit.count, limit.window_seconds)
                if limit.key in self._tats and (found := retake(self._remembered(limit), n, at, self._since(), of)):
                    self._takes[limit.key], self._tats[limit.key] = found

    def _take(self, limits: Sequence[Limit], n: int, now: int) -> None:
        for limit in limits:
            of = bucket(limit.count, limit.window_seconds)
            tat = reckon(self._tats.get(limit.key), self._since(), now, of)
            self._tats[limit.key] = tat + n * of.interval_us
            self._takes[limit.key] = [*self._remembered(limit), Take(now, n, tat)]

    def _remembered(self, limit: Limit) -> list[Take]:
        oldest = self._now() - remembered_us(limit)
        return [take for take in self._takes.get(limit.key, ()) if take.at >= oldest]

    @property
    def _takes(self) -> dict[str, list[Take]]:
        return self._epoch.room("takes")

    @property
    def _tats(self) -> dict[str, int]:
        return self._epoch.room("limits")

    def _now(self) -> int:
        return round(self._epoch.clock() * SECOND_US)

    def _since(self) -> int | None:
        return None if self._epoch.since is None else round(self._epoch.since * SECOND_US)


class MemorySessions:
    """A `SessionLeases` for tests and simulations."""

    def __init__(self, epoch: MemoryEpoch, lease_seconds: float = 30.0) -> None:
        self.lease_seconds = lease_seconds
        self._epoch = epoch

    def acquire(self, places: Sequence[Place], session_id: str) -> bool:
        """See `SessionLeases`."""
        with self._epoch.lock:
            now = self._epoch.clock()
            for leases in (self._leases(place) for place, _ in places):
                for lapsed in [session for session, until in leases.items() if until <= now]:
                    del leases[lapsed]
            new = [(place, most) for place, most in places if session_id not in self._leases(place)]
            if new and (self._registering(now) or any(len(self._leases(place)) >= most for place, most in new)):
                return False
            for place, _ in places:
                self._leases(place)[session_id] = now + self.lease_seconds
            return True

    def registering(self) -> bool:
        """See `SessionLeases`."""
        with self._epoch.lock:
            return self._registering(self._epoch.clock())

    def renew(self, sessions: Sequence[tuple[Sequence[str], str]]) -> list[tuple[Sequence[str], str]]:
        """See `SessionLeases`."""
        with self._epoch.lock:
            now, lapsed = self._epoch.clock(), []
            registering = self._registering(now)
            for places, session_id in sessions:
                if registering or all(session_id in self._leases(place) for place in places):
                    for place in places:
                        self._leases(place)[session_id] = now + self.lease_seconds
                else:
                    lapsed.append((places, session_id))
            return lapsed

    def release(self, places: Sequence[str], session_id: str) -> None:
        """See `SessionLeases`."""
        with self._epoch.lock:
            for place in places:
                self._leases(place).pop(session_id, None)

    def _leases(self, place: str) -> dict[str, float]:
        leases: dict[str, float] = self._epoch.room("sessions").setdefault(place, {})
        return leases

    def _registering(self, now: float) -> bool:
        since = self._epoch.since
        return self._epoch.current() is None or (since is not None and now < since + self.lease_seconds)
