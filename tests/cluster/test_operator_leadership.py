"""Two replicas of the operator: one acts, the other takes over, and one that was stopped writes nothing any more."""

from __future__ import annotations

import json
import signal
import time

from cluster_worlds import World
from operators import Operator, eventually, pool

BACKLOG = {"target": {"backlogPerReplica": 100}, "scaleDown": {"stabilizationWindowSeconds": 0}, "cooldownSeconds": 0}
FAILOVER_SECONDS = 15.0


def sides(*operators: Operator) -> tuple[Operator, Operator]:
    """Who leads, and who stands by."""
    eventually(lambda: [one.leads() for one in operators], lambda found: found.count(True) == 1)
    leader = next(one for one in operators if one.leads())
    return leader, next(one for one in operators if one is not leader)


def test_one_of_two_replicas_acts_and_the_other_takes_over_after_kill_9(world: World) -> None:
    world.backlog(100)
    leader, other = sides(world.operator(), world.operator())
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    leader.program.kill()
    killed = time.monotonic()
    world.backlog(300)
    world.scaled(3, seconds=2 * FAILOVER_SECONDS)
    assert other.leads()
    assert time.monotonic() - killed < FAILOVER_SECONDS


def test_a_replica_that_ends_in_peace_hands_over_at_once(world: World) -> None:
    world.backlog(100)
    leader, other = sides(world.operator(), world.operator())
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    assert leader.stop() == 0
    eventually(other.leads, seconds=6.0)
    world.backlog(200)
    world.scaled(2)


def test_a_leader_that_was_stopped_for_longer_than_its_lead_writes_nothing_when_it_goes_on(world: World) -> None:
    world.backlog(100)
    leader, other = sides(world.operator(), world.operator())
    world.apply(pool(autoscaling=BACKLOG))
    world.scaled(1)
    eventually(lambda: leader.logged("scaled"))  # no call is under way
    leader.program.send(signal.SIGSTOP)
    eventually(other.leads, seconds=FAILOVER_SECONDS)
    world.backlog(400)
    world.scaled(4)
    before = len(leader.logged("scaled"))
    # The one that wakes up sees another backlog than it did before, and must not act on it.
    leader.program.send(signal.SIGCONT)
    world.backlog(700)
    world.scaled(7)
    eventually(lambda: leader.logged("lead_lost"))
    world.backlog(200)
    world.scaled(2)
    assert len(leader.logged("scaled")) == before
    assert other.leads()


def test_a_lead_that_was_given_to_somebody_else_ends_at_the_next_look(world: World) -> None:
    operator = world.operator()
    eventually(operator.leads)
    theirs = {"spec": {"holderIdentity": "somebody-else"}}
    world.kubectl("patch", "lease", "postfleet-operator", "--type=merge", "-p", json.dumps(theirs))
    eventually(lambda: operator.logged("lead_lost"), seconds=5.0)
    eventually(operator.leads, seconds=FAILOVER_SECONDS)  # and nobody renewed it
