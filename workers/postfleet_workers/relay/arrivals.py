"""How fast jobs become ready to run: λ of a queue, as the scaling formula wants it. Pure.

Measured by the balance of what the relay knows anyway: what was put on offer since the last look, plus the growth of
what is due and was not. So a full pipe hides nothing, promoted and handed-back rows count when they are ready (again),
and a group that a limit holds back counts with what the limit let through. Where the balance cannot be told, of a group
that was counted to its bound or that a limit has begun or ceased to hold, growth counts as none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from postfleet_workers.relay.allocate import Key

HALF_LIFE_SECONDS = 30.0
# A rate that was measured for less than this is not blown up to what it would be if it went on.
SETTLED_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Arrivals:
    """A moving average that starts empty.

    Attributes:
        smoothed: jobs per second, each look weighed by its age and length.
        seconds: how long it was measured.
        due: of the last look; None before the first.
    """

    smoothed: float = 0.0
    seconds: float = 0.0
    due: Mapping[Key, int | None] | None = None

    @property
    def per_second(self) -> float:
        """λ: an average over the time it was measured, so that a relay that just started is not too low for long."""
        if self.seconds <= 0:
            return 0.0
        return self.smoothed / (1 - _fade(max(self.seconds, SETTLED_SECONDS)))

    def look(self, due: Mapping[Key, int | None], published: Mapping[Key, int], elapsed: float) -> Arrivals:
        """The average after another look.

        Args:
            due: now due and not on offer, by group; None where a limit or the counting's bound cut it off.
            published: put on offer since the last look, by group.
            elapsed: seconds since then.
        """
        if self.due is None or elapsed <= 0:
            return replace(self, due=dict(due))
        growth = sum(_growth(self.due.get(key, 0), due.get(key, 0)) for key in self.due.keys() | due.keys())
        came = max(sum(published.values()) + growth, 0)
        fade = _fade(elapsed)
        return Arrivals(self.smoothed * fade + came / elapsed * (1 - fade), self.seconds + elapsed, dict(due))


def _growth(before: int | None, now: int | None) -> int:
    return 0 if before is None or now is None else now - before


def _fade(seconds: float) -> float:
    return math.pow(0.5, seconds / HALF_LIFE_SECONDS)
