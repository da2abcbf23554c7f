"""A proposal keeps the target if anything that was tried does, costs no more than what is there, and is repeatable."""

from __future__ import annotations

import math

import pytest

from postfleet_operator.simulation import tune
from postfleet_operator.simulation.policies import makers
from postfleet_operator.simulation.policies import scene as scene_of
from postfleet_operator.simulation.policy import Policy
from postfleet_operator.simulation.replay import Progress, Replay, Scene, replay, replay_within
from postfleet_operator.spec import PoolSpec
from unit.operator.building import latency_spec, spec
from unit.operator.simulation.scenes import constant, scene

BURSTS = {**dict.fromkeys(range(200), 2), 60: 60, 140: 60}


def world(given: PoolSpec, **fields: int) -> Scene:
    base = scene(BURSTS, seconds=220, **fields)
    return scene_of(given, base.trace, base.shape)


def test_a_wasteful_policy_gets_a_cheaper_one_that_keeps_the_target() -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 20, "minReplicas": 15})
    found = tune.propose(given, world(given), 0.2)
    assert found.reached
    assert found.outcome.slo_miss_fraction <= 0.2
    assert found.outcome.replica_hours < found.before.replica_hours
    assert found.autoscaling.min_replicas < 15


def test_a_strict_target_is_paid_for() -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 40})
    loose = tune.propose(given, world(given), 0.5)
    strict = tune.propose(given, world(given), 0.0)
    assert loose.reached
    assert strict.reached
    assert strict.outcome.slo_miss_fraction == 0.0
    assert strict.outcome.replica_hours > loose.outcome.replica_hours


def test_the_proposal_can_be_replayed_and_is_the_same_every_time() -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 20})
    found = tune.propose(given, world(given), 0.1)
    assert found == tune.propose(given, world(given), 0.1)
    tuned = given.model_copy(update={"autoscaling": found.autoscaling})
    again = scene_of(tuned, world(given).trace, world(given).shape)
    assert replay(again, makers(tuned, again)["postfleet"]()).outcome.replica_hours == found.outcome.replica_hours


def test_what_max_replicas_cannot_do_is_not_reached() -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 2})
    found = tune.propose(given, scene_of(given, constant(9, 60).trace, world(given).shape), 0.01)
    assert not found.reached
    assert found.outcome.slo_miss_fraction <= found.before.slo_miss_fraction


def test_a_backlog_target_remains_a_backlog() -> None:
    given = spec(autoscaling={"target": {"backlogPerReplica": 500}, "maxReplicas": 40})
    found = tune.propose(given, world(given), 0.1)
    assert found.autoscaling.target.latency_seconds is None
    assert found.before.slo_miss_fraction > 0.1
    assert found.reached


def test_progress_tells_every_policy_and_what_the_best_so_far_does() -> None:
    given, told = latency_spec(5), list[tuple[int, float, str]]()
    found = tune.propose(given, world(given), 0.1, progress=lambda *how: told.append(how))
    assert {number for number, _, _ in told} == set(range(1, found.replays + 1))
    assert all(0 < share <= 1 for _, share, _ in told)
    assert (told[0][2], told[-1][2][-2:]) == ("", " h")


def test_a_policy_that_costs_too_much_is_not_replayed_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 20})
    limits: list[float] = []

    def spied(scene: Scene, policy: Policy, seconds: float, progress: Progress | None = None) -> Replay | None:
        limits.append(seconds)
        return replay_within(scene, policy, seconds, progress)

    monkeypatch.setattr(tune, "replay_within", spied)
    thrifty = tune.propose(given, world(given), 0.3)
    assert limits[0] == math.inf
    assert min(limits) < math.inf
    monkeypatch.setattr(tune, "replay_within", lambda scene, policy, *_: replay_within(scene, policy, math.inf))
    assert tune.propose(given, world(given), 0.3) == thrifty, "and the answer is the same"


@pytest.mark.parametrize(("most", "floors"), [(1, [0, 1]), (4, [0, 1, 2, 3, 4]), (10, [0, 1, 2, 3, 4, 6, 8, 10])])
def test_floors_grow_by_halves(most: int, floors: list[int]) -> None:
    assert sorted(set(tune.steps(most))) == floors
