"""Which replicas of a Deployment to start and which to stop. Pure: values in, names out.

A changed pod template is rolled out by surge: new replicas start first, and an old one goes for every new one that is
ready. Scaling down takes the ones that are not ready first, then those that were named, of each the youngest first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BACKOFF_FIRST_SECONDS, BACKOFF_MOST_SECONDS = 1.0, 30.0
STEADY_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class View:
    """What the plan needs to know of a replica that is not being stopped.

    `number` counts up with every new replica; `named`: it was asked to go first.
    """

    name: str
    number: int
    template: str
    ready: bool
    named: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """How many replicas of the current template to start, and which replicas to stop."""

    start: int
    stop: tuple[str, ...]


def plan(replicas: Sequence[View], desired: int, template: str) -> Plan:
    """The next step towards `desired` replicas of `template`."""
    current = sorted((r for r in replicas if r.template == template), key=_value, reverse=True)
    old = sorted((r for r in replicas if r.template != template), key=_value, reverse=True)
    kept = current[:desired]
    old_wanted = desired - sum(r.ready for r in kept)
    doomed = [*current[desired:], *old[old_wanted:]]
    return Plan(desired - len(kept), tuple(r.name for r in doomed))


def _value(replica: View) -> tuple[bool, bool, int]:
    return replica.ready, not replica.named, -replica.number


def backoff_seconds(crashes: int) -> float:
    """The wait before the restart after the `crashes`-th crash in a row (1 is the first)."""
    return min(BACKOFF_MOST_SECONDS, BACKOFF_FIRST_SECONDS * 2.0 ** min(crashes - 1, 10))


def crashes_in_row(before: int, ran_seconds: float) -> int:
    """The count after one more crash: a replica that ran for a minute starts anew."""
    return 1 if ran_seconds >= STEADY_SECONDS else before + 1
