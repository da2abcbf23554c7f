"""Nodes that this process leaves alone for a while, because they refused its login or their TLS is not to be trusted.

Providers lock accounts after a few wrong logins, and a changed Secret takes a kubelet up to two minutes to bring. So a
refused login is offered again only after a pause that grows with each refusal, or once the login (or the server) is
another one. A login that has not worked yet is tried by one thread at a time. Where the server is away, that one thread
goes on trying and the others are told so: waiting for it one by one, they would get through no mail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import structlog

from postfleet_workers import backoff
from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.errors import SetupFault, SmtpFault
from postfleet_workers.mail.node import NodeSpec

log = structlog.get_logger(__name__)

PAUSE_SECONDS = 120.0
# No longer than workers' failures are news to the node's condition `Reachable`: it must not look mended meanwhile.
LONGEST_PAUSE_SECONDS = 600.0
# A server that was away so long before the try that goes on now is taken to be away until that one says more.
RECENT_SECONDS = 30.0

Session = TypeVar("Session")
Fault = TypeVar("Fault", bound=SmtpFault)


@dataclass(slots=True, eq=False)
class _Standing:
    """How a node takes one login: `proven` once it let us in, `trying` while one thread finds out whether it does.

    `fault`, met `times` times in a row, is a refusal, and holds `until` then; `away` is what else went wrong last.
    """

    access: tuple[object, Login | None]
    proven: bool
    trying: bool = False
    fault: SetupFault | None = None
    times: int = 0
    until: float = 0.0
    away: SmtpFault | None = None
    away_at: float = 0.0


class Refusals:
    """The refusals that a process has met; safe for its threads.

    Args:
        monotonic: a monotonic clock, in seconds.
        jitter: uniform in [0, 1), so that the processes of a fleet do not come back together.
    """

    def __init__(self, monotonic: Callable[[], float], jitter: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._jitter = jitter
        self._lock = threading.Lock()
        self._standings: dict[str, _Standing] = {}

    def attempt(self, node: NodeSpec, login: Login | None, connect: Callable[[], Session | None]) -> Session | None:
        """What `connect` opens; None if it does not, or while another thread finds out whether the login works.

        Raises:
            SetupFault: the node refuses us, or did a moment ago (`remembered`).
            SmtpFault: it is away; or it was a moment ago, and another thread tries again (`remembered`).
        """
        admitted = self._admit(node, login)
        if admitted is None:
            return None
        standing, alone = admitted
        try:
            session = connect()
        except SetupFault as fault:
            self._refused(standing, node.name, alone, fault)
            raise
        except SmtpFault as fault:
            self._away(standing, fault)
            raise
        else:
            if session is not None:
                self._worked(standing, node.name)
            return session
        finally:
            if alone:
                standing.trying = False

    def _admit(self, node: NodeSpec, login: Login | None) -> tuple[_Standing, bool] | None:
        access = (node.endpoint, login)
        with self._lock:
            standing = self._standings.get(node.name)
            if standing is None or standing.access != access:
                # Without a login there is no account that could be locked.
                standing = self._standings[node.name] = _Standing(access, proven=login is None)
            left = standing.until - self._monotonic()
            if standing.fault is not None and left > 0:
                raise _again(standing.fault, standing.times, left)
            if standing.proven:
                return standing, False
            if not standing.trying:
                standing.trying = True
                if self._monotonic() - standing.away_at > RECENT_SECONDS:
                    standing.away = None
                return standing, True
            if standing.away is not None:
                raise _remembered(standing.away, "a moment ago")
            return None

    def _refused(self, standing: _Standing, node: str, alone: bool, fault: SetupFault) -> None:
        with self._lock:
            if alone or standing.proven:  # threads that were refused together count once
                standing.proven = False
                standing.times += 1
                pause = backoff.exponential(standing.times, PAUSE_SECONDS, self._jitter(), LONGEST_PAUSE_SECONDS)
                standing.until = self._monotonic() + pause
                standing.fault = fault
                log.warning(
                    "node_left_alone", node=node, refusals=standing.times, seconds=round(pause), error=str(fault)
                )
            fault.times = standing.times
            fault.pause_seconds = max(standing.until - self._monotonic(), 0.0)

    def _away(self, standing: _Standing, fault: SmtpFault) -> None:
        with self._lock:
            standing.away, standing.away_at = fault, self._monotonic()

    def _worked(self, standing: _Standing, node: str) -> None:
        with self._lock:
            times, standing.times = standing.times, 0
            standing.proven, standing.fault = True, None
        if times:
            log.info("node_lets_us_in_again", node=node, refusals=times)


def _again(fault: SetupFault, times: int, left: float) -> SetupFault:
    """The same refusal, for mail that comes during the pause."""
    again = _remembered(fault, f"not tried again for {left:.0f} s, unless the login changes")
    again.times, again.pause_seconds = times, left
    return again


def _remembered(fault: Fault, why: str) -> Fault:
    """The same fault, for mail for which the server was not asked."""
    again = type(fault)(fault.phase, f"{fault} ({why})", fault.reply, fault.host)
    again.remembered = True
    return again
