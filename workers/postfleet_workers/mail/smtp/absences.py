"""Servers that this process passes over for a while, because they did not let it in.

Only recipients' servers: a dead MX must not be waited for by every mail of a domain, while its next one is up. The
pause grows with each failure; when it is over, one thread tries again and the others go on passing it over meanwhile.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass

from postfleet_workers import backoff

PAUSE_SECONDS = 20.0
LONGEST_PAUSE_SECONDS = 600.0
TRYING_SECONDS = 60.0
KEPT = 10_000


@dataclass(frozen=True, slots=True)
class _Absence:
    reason: str
    times: int
    until: float


class Absences:
    """Who was away; used by all threads of a process. Who was away the longest ago is forgotten first.

    Args:
        monotonic: a monotonic clock, in seconds.
        jitter: uniform in [0, 1).
    """

    def __init__(self, monotonic: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._lock = threading.Lock()
        self._away: OrderedDict[Hashable, _Absence] = OrderedDict()

    def of(self, server: Hashable) -> str | None:
        """Why a server is to be passed over; None: try it, and tell `note` or `forget` how it went."""
        with self._lock:
            absence = self._away.get(server)
            if absence is None:
                return None
            now = self._monotonic()
            if now < absence.until:
                return absence.reason
            self._away[server] = _Absence(absence.reason, absence.times, now + TRYING_SECONDS)
            return None

    def note(self, server: Hashable, reason: str) -> None:
        """It did not let us in."""
        with self._lock:
            known = self._away.pop(server, None)
            times = known.times + 1 if known else 1
            pause = backoff.exponential(times, PAUSE_SECONDS, self._jitter(), LONGEST_PAUSE_SECONDS)
            self._away[server] = _Absence(reason, times, self._monotonic() + pause)
            while len(self._away) > KEPT:
                self._away.popitem(last=False)

    def forget(self, server: Hashable) -> None:
        """It let us in."""
        with self._lock:
            self._away.pop(server, None)
