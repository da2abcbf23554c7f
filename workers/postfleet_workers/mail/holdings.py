"""What a bundle holds while it runs: SMTP sessions and permits. Unused ones go back.

Whoever waits for a session holds no other one meanwhile, or two bundles could wait for each other.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress

from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.mail.letter import Letter, Shelf, shelf
from postfleet_workers.mail.parcels import Parcel
from postfleet_workers.mail.permits import Permits
from postfleet_workers.mail.smtp.sessions import Held, Lane, Sessions
from postfleet_workers.throttling.limiter import Limiter

# The mail behind it in its bundle goes elsewhere, and would be handed back as overdue.
SITE_WAIT_SECONDS = 2.0


class Holdings:
    """Of one bundle, used by one thread.

    Args:
        sessions: of this process.
        limiter: limits over the cluster.
        monotonic: a monotonic clock, in seconds.
        pause: waits so many seconds, for a permit that is nearly due.
        wait_seconds: how long to wait for a session while all are taken.
    """

    def __init__(
        self,
        sessions: Sessions,
        limiter: Limiter,
        monotonic: Callable[[], float],
        pause: Callable[[float], object],
        wait_seconds: float,
    ) -> None:
        self._sessions = sessions
        self._limiter = limiter
        self._monotonic = monotonic
        self._pause = pause
        self._wait_seconds = wait_seconds
        self._free: list[Held] = []
        self._in_use: set[Held] = set()
        self._enough: set[Lane] = set()  # where there are no more to be had
        self._permits: dict[Shelf, Permits] = {}
        self._left: Counter[Shelf] = Counter()  # mails without a permit yet, by domain for want of site
        self._counted: set[int] = set()  # those that are not among them any more

    def expect(self, parcels: Iterable[Parcel]) -> None:
        """These mails are to come."""
        self._left.update(shelf(parcel, parcel.domain) for parcel in parcels)

    def count(self, parcel: Parcel) -> None:
        """The mail has its permit, or needs none any more."""
        if parcel.row.id not in self._counted:
            self._counted.add(parcel.row.id)
            self._left[shelf(parcel, parcel.domain)] -= 1

    def permits(self, letter: Letter) -> Permits:
        """The permits that this mail needs one of."""
        own = shelf(letter.parcel, letter.destination.site)
        if own not in self._permits:
            limits = (*letter.parcel.limits, *letter.limits_there)
            self._permits[own] = Permits(self._limiter, limits, self._monotonic, self._pause)
        return self._permits[own]

    def alike(self, letter: Letter) -> int:
        """How many mails of the bundle need the same permits, this one among them."""
        whole_route = letter.node.route(letter.destination.site) == letter.job.route and not letter.nameless
        left = sum(self._left.values()) if whole_route else self._left[shelf(letter.parcel, letter.parcel.domain)]
        return max(1, left)

    def session(self, letter: Letter, *, wait: bool) -> Held | None:
        """An open session for the mail; None if none is free, or came free in time.

        Without `wait` it is one beside others. Where there is none the bundle does not ask for another again: whether
        the server does not let us in so often, or others need the places more.

        Raises:
            SmtpFault: the one that was waited for could not be opened.
            PipeUnavailable: Redis does not answer.
        """
        for held in self._free:
            # Where one session turned out to have ended the others may have, too: who comes again takes a proven one.
            if held.fit and not letter.retried and held.serves(letter.node, letter.destination):
                self._free.remove(held)
                return self._lent(held)
        if not wait:
            return None if letter.lane in self._enough else self._lent(self._one_more(letter))
        self.keep_sessions(())
        patience = min(self._wait_seconds, SITE_WAIT_SECONDS) if letter.nameless else self._wait_seconds
        return self._lent(self._sessions.take(letter.node, patience, letter.destination))

    def _one_more(self, letter: Letter) -> Held | None:
        held = self._sessions.take_another(letter.node, letter.destination)
        if held is None:
            self._enough.add(letter.lane)
        return held

    def _lent(self, held: Held | None) -> Held | None:
        if held is not None:
            self._in_use.add(held)
        return held

    def free(self, held: Held) -> None:
        """A mail needs it no more; the next one may."""
        self._in_use.discard(held)
        self._free.append(held)

    def keep_sessions(self, lanes: Collection[Lane]) -> None:
        """Give back the free sessions that none of these mails can go over, and all but one where others wait."""
        free, self._free = sorted(self._free, key=lambda held: not held.fit), []  # to close one may take a moment
        for held in free:
            spared = self._free and self._sessions.awaited(held.node)
            if held.fit and not spared and held.lane in lanes:
                self._free.append(held)
            else:
                self._sessions.give_back(held)

    def give_back(self) -> None:
        """At the end: all that is left, of mails too that were given up in the middle."""
        for held in list(self._in_use):
            held.session.abort()
            self.free(held)
        self.keep_sessions(())
        for permits in self._permits.values():
            with suppress(PipeUnavailable):  # unused permits then count as used: slower, never too fast
                permits.give_back()
