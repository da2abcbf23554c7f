"""How many jobs the limits will permit in the next seconds, so that a limited node or tenant never fills the pipe.

Foreseen, not taken: the worker asks for real, one step before MAIL FROM.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.census import Pipeful
from postfleet_workers.relay.gate import Rules
from postfleet_workers.throttling.limiter import Limiter
from postfleet_workers.throttling.limits import Limit

PUBLISH_HORIZON_SECONDS = 0.25  # a tick and a claim; a worker waits longer than this for a permit that is nearly due
SESSION_HORIZON_SECONDS = 2.0
PLAN_HORIZON_SECONDS = 60.0
PLENTY = 1_000_000


def still_to_ask(rules: Rules, pipes: Mapping[str, Mapping[Key, Pipeful]]) -> Counter[str]:
    """By limit, the jobs of all queues that have still to ask it.

    For a rate those on offer or just claimed (a bundle asks for all its permits at once), for sessions every executing
    one too.
    """
    found: Counter[str] = Counter()
    for pipe in pipes.values():
        for key, pipeful in pipe.items():
            for limit in rules.limits(key):
                found[limit.key] += pipeful.offered + pipeful.fresh
            for limit in rules.sessions(key[2]):
                found[limit.key] += pipeful.running - pipeful.fresh
    return found


@dataclass(frozen=True, slots=True)
class Permits:
    """What each limit lets through, less what is in the pipe: in the next seconds (`now`) and minute (`plan`).

    `rates`: in the long run, jobs per second.
    """

    now: Mapping[str, int]
    plan: Mapping[str, int]
    rates: Mapping[str, float] = field(default_factory=dict)

    def binding(self, limits: Iterable[Limit]) -> str | None:
        """The name of the tightest limit."""
        tightest = min(limits, key=lambda limit: self.plan[limit.key], default=None)
        return tightest.name if tightest else None

    def slowest(self, limits: Iterable[Limit]) -> tuple[str, float] | None:
        """The limit that lets the least through in the long run: its name, and jobs per second."""
        slowest = min(limits, key=lambda limit: self.rates[limit.key], default=None)
        return (slowest.name, self.rates[slowest.key]) if slowest else None


def foresee(
    limiter: Limiter,
    limits: Iterable[Limit],
    paces: Mapping[str, float],
    in_pipe: Mapping[str, int],
    *,
    planned: bool = True,
) -> Permits:
    """Ask the limiter, reading only, what the limits permit.

    Args:
        limiter: answers for rates.
        limits: those of every group; duplicates are asked once.
        paces: seconds per job by the key of a limit of sessions: a session lets `seconds / pace` jobs through.
        in_pipe: by limit key, the jobs of any queue that have still to ask, see `still_to_ask`.
        planned: for the next minute, too; otherwise there is no `plan`.
    """
    unique = {limit.key: limit for limit in limits}
    rates = [limit for limit in unique.values() if limit.key not in paces]
    asks = [((limit,), PLENTY) for limit in rates]

    def within(seconds: float, session_seconds: float) -> dict[str, int]:
        answers = limiter.peek_many(asks, seconds) if asks else []
        granted = {limit.key: answer.granted for limit, answer in zip(rates, answers, strict=True)}
        for key in paces.keys() & unique.keys():
            granted[key] = max(unique[key].count, int(unique[key].count * session_seconds / max(paces[key], 0.001)))
        return {key: max(0, most - in_pipe.get(key, 0)) for key, most in granted.items()}

    return Permits(
        within(PUBLISH_HORIZON_SECONDS, SESSION_HORIZON_SECONDS),
        within(PLAN_HORIZON_SECONDS, PLAN_HORIZON_SECONDS) if planned else {},
        {
            key: limit.count / (max(paces[key], 0.001) if key in paces else limit.window_seconds)
            for key, limit in unique.items()
        },
    )
