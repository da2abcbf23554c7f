"""What is in the way of a bundle's mails, and what they wait for: found by one, and the others do not run into it too.

A mail is put back, or deferred as if it had been tried; never dropped. What a limit holds goes back to the relay,
which holds it from then on; a site without a name has no route there, so mail for it waits by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import structlog

from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.jobs import HandBack, Outcome, Snooze
from postfleet_workers.mail.errors import ConnectionLost, NowhereToGo, SetupFault, SmtpFault, Unreachable
from postfleet_workers.mail.letter import Letter
from postfleet_workers.mail.parcels import Parcel
from postfleet_workers.mail.replies.outcome import History, Schedule, Target, outcome_of_fault
from postfleet_workers.mail.smtp.sessions import Lane
from postfleet_workers.throttling.limiter import Admission

log = structlog.get_logger(__name__)

PIPE_AWAY_SECONDS = 5.0
AFTER_FAULT_SECONDS = 30.0
SESSION_WAIT_SECONDS = 5.0
# So often a mail waits for a recipient's server that is away, untried. Then it is deferred as if it had been tried, or
# it would come back for ever: of much mail for one dead server each gets its turn to try it but once in days.
MOST_WAITS = 3
# Mail for a site without a name that takes no more now: it may be much, and is not to come back all at once. The
# oftener one was put back, the more seem to wait, and the longer the time over which they are spread, up to a minute.
SITE_SECONDS = 1.0
MOST_DOUBLINGS = 6


class Obstacles:
    """Of one bundle, used by one thread.

    Args:
        schedule: when deferred mail is tried again.
        jitter: uniform in [0, 1).
        now: the database's clock.
    """

    def __init__(self, schedule: Schedule, jitter: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._schedule = schedule
        self._jitter = jitter
        self._now = now
        self._everywhere: Outcome | None = None
        self._lanes: dict[Lane, Outcome] = {}
        self._away: dict[Lane, SmtpFault] = {}  # recipients' servers

    def before(self, letter: Letter) -> Outcome | None:
        """What happens to a mail that need not be tried, for what others met."""
        if self._everywhere or letter.lane not in self._lanes:
            return self._everywhere
        fault = self._away.get(letter.lane)
        if fault is None or letter.job.snoozes < MOST_WAITS:  # it is not deferred either, at first
            return self._lanes[letter.lane]
        return outcome_of_fault(fault, _target(letter, fault), self.history(letter.parcel), self._schedule)

    def fault(self, letter: Letter, fault: SmtpFault) -> Outcome:
        """What comes of a mail whose session failed; after one that could not be opened, the others do not try it."""
        outcome = outcome_of_fault(fault, _target(letter, fault), self.history(letter.parcel), self._schedule)
        if isinstance(fault, ConnectionLost | NowhereToGo):
            return outcome
        self._lanes[letter.lane] = self._rest(letter.node.name, fault, outcome)
        if letter.node.direct and isinstance(fault, Unreachable):
            self._away[letter.lane] = fault
        return (self.before(letter) or outcome) if fault.remembered else outcome

    def no_session(self, letter: Letter) -> Outcome:
        """All of its sessions are taken, and none came free."""
        most = letter.destination.limits.max_connections
        where = (
            f" at {letter.destination.site}, of {most}" if most is not None else f", of {letter.node.max_connections}"
        )
        reason = f"no session of node {letter.node.name} came free{where}"
        self._lanes[letter.lane] = self.wait(letter, SESSION_WAIT_SECONDS, reason)
        return self._lanes[letter.lane]

    def refused(self, letter: Letter, admission: Admission) -> Outcome:
        """A limit is spent."""
        reason = f"held by {admission.bound}"
        if admission.bound in {limit.name for limit in letter.limits_there}:
            return self.wait(letter, admission.wait_seconds, reason)
        return HandBack(reason)

    def wait(self, letter: Letter, seconds: float, reason: str) -> Outcome:
        """Put back what its site holds: to the relay, where the site has a route; else for as long as it takes."""
        if not letter.nameless:
            route = letter.node.route(letter.destination.site)
            return HandBack(reason, route=None if route == letter.job.route else route)
        spread = SITE_SECONDS * 2 ** min(letter.job.snoozes, MOST_DOUBLINGS) * self._jitter()
        return Snooze(max(SITE_SECONDS, seconds) + spread, reason, kind="site_limit")

    def redis_away(self, error: PipeUnavailable) -> Outcome:
        """Neither limits nor journal answer: nothing more goes out."""
        self._everywhere = Snooze(PIPE_AWAY_SECONDS, f"Redis is away: {error}", kind="redis_away")
        return self._everywhere

    def claim_lost(self) -> Outcome:
        """The journal let a dot not out: it will let no other."""
        self._everywhere = HandBack("the claim is no longer ours")
        return self._everywhere

    def history(self, parcel: Parcel) -> History:
        """What the mail has been through."""
        row = parcel.row
        age = (self._now() - row.begun_at).total_seconds() if row.begun_at else 0.0
        return History(row.deferrals, age, self._jitter())

    def _rest(self, node: str, fault: SmtpFault, outcome: Outcome) -> Outcome:
        """What the bundle's other mails of the node wait for, after its session could not be opened."""
        if not fault.remembered:
            log.warning("smtp_session_failed", node=node, phase=str(fault.phase), error=str(fault))
        if isinstance(fault, SetupFault) and isinstance(outcome, Snooze):
            return replace(outcome, record=None)
        wait = min(AFTER_FAULT_SECONDS, self._schedule.base_seconds)
        return Snooze(wait, f"node {node}: {fault}", kind="node_unreachable")


def _target(letter: Letter, fault: SmtpFault) -> Target:
    return Target(letter.node.name, letter.destination.site, fault.host)
