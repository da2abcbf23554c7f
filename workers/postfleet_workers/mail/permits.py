"""Permission to send, asked for once for many mails: an unused rest goes back within a second."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from postfleet_workers.throttling.limiter import Admission, Limiter
from postfleet_workers.throttling.limits import Limit

HOLD_SECONDS = 1.0
NEAR_SECONDS = 0.5  # the relay offers what will be permitted within a tick: a permit that is due so soon is waited for


class Permits:
    """The permits of one bundle's mails under the same limits. Used by one thread."""

    def __init__(
        self,
        limiter: Limiter,
        limits: Sequence[Limit],
        monotonic: Callable[[], float],
        pause: Callable[[float], object],
    ) -> None:
        self._limiter = limiter
        self._limits = limits
        self._monotonic = monotonic
        self._pause = pause
        self._reserved = tuple(limit for limit in limits if limit.reserved)
        self._left = 0
        self._granted_at = 0.0
        self._answered_at = 0  # on the limiter's clock

    def take(self, wanted: Callable[[], int], *, patient: bool = True) -> Admission | None:
        """Take one permit; asks for as many as are `wanted` when none is left or they are too old.

        Args:
            wanted: how many remain in the bundle.
            patient: wait for one that is nearly due (`is_near`).

        Returns:
            None, or the refusal: which limit is spent, and for how long.

        Raises:
            PipeUnavailable: the limiter does not answer.
        """
        if not self._limits:
            return None
        if self._left and self._monotonic() - self._granted_at > HOLD_SECONDS:
            self.give_back()
        if not self._left:
            count = wanted()
            admission = self._limiter.acquire(self._limits, count)
            if patient and is_near(admission):
                self._pause(admission.wait_seconds)
                admission = self._limiter.acquire(self._limits, count)
            if not admission.granted:
                return admission
            self._left, self._answered_at = admission.granted, admission.at
            self._granted_at = self._monotonic()
        self._left -= 1
        return None

    def give_back(self) -> None:
        """Return what was not used.

        Raises:
            PipeUnavailable: the limiter does not answer.
        """
        left, self._left = self._left, 0
        if left:
            self._limiter.give_back(self._limits, left, self._answered_at)

    @property
    def taken_at(self) -> int:
        """Of the permit that was taken last: by it what was reserved finds back, see `not_accepted`."""
        return self._answered_at

    def not_accepted(self, taken_at: int) -> None:
        """The mail that a permit was taken for was not accepted: what was reserved for it is free again.

        Raises:
            PipeUnavailable: the limiter does not answer; it then counts as accepted.
        """
        if self._reserved:
            self._limiter.give_back(self._reserved, 1, taken_at)


def is_near(admission: Admission) -> bool:
    """Whether a refused permit will be there in a moment."""
    return not admission.granted and 0 < admission.wait_seconds <= NEAR_SECONDS
