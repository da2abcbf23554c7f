"""What a scaling policy is to the simulator. Pure."""

from __future__ import annotations

from typing import Protocol

from postfleet_operator.simulation.fleet import Fleet


class Policy(Protocol):
    """Looks at a fleet at times of its own, and says how many replicas there should be.

    Attributes:
        next_at: when it wants to look next, seconds since the trace began; moves on with every look.
    """

    next_at: float

    def look(self, fleet: Fleet) -> int | None:
        """How many replicas there should be from now on; None for no opinion."""
