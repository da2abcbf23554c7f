"""How long a worker takes from being asked for to being Ready: learned from the pods themselves. Pure."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from postfleet_operator.scaling.values import PodTimes

KEPT = 20
# Before the first one was seen.
GUESS_SECONDS = 5.0
# A worker that takes this many times longer than others did, and at least so long, is not merely starting.
LATE_FACTOR = 3.0
LATE_FLOOR_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Startups:
    """What start-ups taught.

    Attributes:
        seen: the seconds that the last ones took, the newest last.
        started: the present pods that have nothing more to teach: they were Ready once, and one that turns Ready again
            has not started again; or they were there before the first look, and may have been. None before that look.
        handed_down: what the status remembered.
    """

    seen: tuple[float, ...] = ()
    started: frozenset[str] | None = frozenset()
    handed_down: float | None = None

    @property
    def p95_seconds(self) -> float | None:
        """95th percentile (nearest rank); None while nothing is known."""
        if not self.seen:
            return self.handed_down
        ordered = sorted(self.seen)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]

    @property
    def seconds(self) -> float:
        """What to reckon with."""
        known = self.p95_seconds
        return GUESS_SECONDS if known is None else known

    @property
    def late_seconds(self) -> float:
        """From this age on, a worker that is not Ready counts as one that will not be."""
        return max(LATE_FACTOR * self.seconds, LATE_FLOOR_SECONDS)


def learn(known: Startups, pods: Collection[PodTimes]) -> Startups:
    """Take in the pods that have become Ready since."""
    present = frozenset(pod.name for pod in pods)
    if known.started is None:
        return replace(known, started=present)
    ready = sorted(((pod.ready_at, pod) for pod in pods if pod.ready_at is not None), key=lambda entry: entry[0])
    fresh = [max(at - pod.created_at, 0.0) for at, pod in ready if pod.name not in known.started]
    started = (known.started | {pod.name for _, pod in ready}) & present
    if not fresh and started == known.started:
        return known
    return replace(known, seen=(*known.seen, *fresh)[-KEPT:], started=started)


def overdue(known: Startups, pods: Iterable[PodTimes], now: float) -> tuple[PodTimes, ...]:
    """The pods that are not merely starting: the cluster has no place for them, they take too long, or were lost."""
    return tuple(
        pod for pod in pods if pod.ready_at is None and (pod.unschedulable or now - pod.created_at > known.late_seconds)
    )


def stuck(known: Startups, pods: Iterable[PodTimes], now: float) -> tuple[PodTimes, ...]:
    """Those of them that another one might share the fate of: what was Ready once shows that its like can start."""
    started = known.started or frozenset()
    return tuple(pod for pod in overdue(known, pods, now) if pod.unschedulable or pod.name not in started)
