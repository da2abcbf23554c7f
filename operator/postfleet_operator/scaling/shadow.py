"""A second policy, decided on beside the first and never applied: what would it ask for, and what would it cost? Pure.

Its workers are imagined: they are Ready at once, and what they would have got done is not known. So it tells the number
and the replica-hours; how long jobs would have waited is the simulator's to say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from postfleet_operator.scaling.decide import decide, first_state, remember
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Decision, Sample
from postfleet_operator.spec import PoolSpec


@dataclass(frozen=True, slots=True)
class Shadow:
    """How the shadow policy stands.

    Attributes:
        since: epoch seconds when it was first looked at.
        decision: its last one.
        replica_seconds: what it would have used since then.
        live_replica_seconds: what the pool asked for in that time.
    """

    since: float
    decision: Decision
    state: State
    replica_seconds: float = 0.0
    live_replica_seconds: float = 0.0

    @property
    def replicas(self) -> int:
        """What it asks for."""
        return self.decision.after


def step(before: Shadow | None, sample: Sample, spec: PoolSpec, live: State, now: float) -> Shadow:
    """One look with the shadow's own `spec`; `live` is the pool's state, which has learned from the same sample."""
    replicas = sample.replicas if before is None else before.replicas
    imagined = replace(sample, replicas=replicas, ready=replicas, starting=0, pods=(), work=None)
    state = first_state(replicas, now) if before is None else before.state
    state = replace(state, throughput=live.throughput, startups=live.startups)
    decision = decide(imagined, spec, state, now)
    state = remember(state, imagined, spec, decision)
    if before is None:
        return Shadow(now, decision, state)
    elapsed = max(now - before.decision.time, 0.0)
    return Shadow(
        before.since,
        decision,
        state,
        before.replica_seconds + elapsed * replicas,
        before.live_replica_seconds + elapsed * sample.replicas,
    )
