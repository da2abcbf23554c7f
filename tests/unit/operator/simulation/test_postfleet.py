"""The pool's own policy in the simulator: fed as in production, it learns, grows, shrinks and keeps to limits."""

from __future__ import annotations

import pytest

from postfleet_operator.simulation.fleet import View
from postfleet_operator.simulation.policies import list_length, makers
from postfleet_operator.simulation.policies import scene as scene_of
from postfleet_operator.simulation.postfleet import Arrivals, Postfleet, judged_queue, slo_seconds
from postfleet_operator.simulation.replay import Replay, Scene, replay
from postfleet_operator.spec import PoolSpec
from unit.operator.building import latency_spec, spec
from unit.operator.simulation.scenes import constant, scene

SPEC = latency_spec(5, autoscaling={"maxReplicas": 20})


def run(world: Scene, given: PoolSpec = SPEC) -> Replay:
    return replay(world, makers(given, world)["postfleet"]())


def view(now: float, arrived: int, begun: int, throttled: int = 0) -> View:
    free = arrived - begun - throttled
    return View(now, arrived, begun, begun, free, throttled, 0.0, 1, 1, 1)


def test_lambda_is_what_the_relay_measures() -> None:
    arrivals = Arrivals()
    rates = [arrivals.look(view(2.0 * k, 20 * k, 20 * k)) for k in range(1, 60)]
    # Not blown up before ten seconds; then, and for as long as it goes on, ten per second.
    assert rates[0] < 10
    assert rates[10:] == pytest.approx([10.0] * 49, rel=0.02)
    quiet = [arrivals.look(view(118.0 + 2.0 * k, 1180, 1180)) for k in range(1, 16)]
    assert quiet[-1] == pytest.approx(5.0, rel=0.1), "half of it after a half-life of 30 s"


def test_what_a_limit_holds_did_not_arrive() -> None:
    arrivals = Arrivals()
    for k in range(1, 100):
        rate = arrivals.look(view(2.0 * k, 100_000, 6 * k, throttled=100_000 - 6 * k - 180))
    assert rate == pytest.approx(3.0, rel=0.1)


def test_a_steady_load_is_met_with_what_it_takes() -> None:
    # 33 jobs/s of one second on replicas of four threads: 8.25 of them.
    result = run(constant(33, 900, threads=4))
    late = [replicas for at, replicas in result.replicas if at > 300]
    assert set(late or [result.replicas[-1][1]]) <= {8, 9, 10}
    assert sum(wait > 5 for wait in list(result.waits)[33 * 120 :]) == 0


def test_it_goes_to_zero_and_wakes_again() -> None:
    result = run(scene({5: 3, 500: 3}, seconds=900))
    zeros = [at for at, replicas in result.replicas if replicas == 0 and at > 0]
    assert len(zeros) == 2
    assert zeros[0] < 500 < zeros[1]


def test_no_more_replicas_than_a_limit_keeps_busy() -> None:
    burst = {120 + second: 200 for second in range(5)}
    warm = dict.fromkeys(range(120), 4)
    free = run(scene(warm | burst, seconds=400))
    held = run(scene(warm | burst, seconds=400, permitted_rate=6.0))
    assert free.outcome.max_replicas == 20
    assert held.outcome.max_replicas <= 7


def test_what_a_worker_does_is_learned_and_not_told() -> None:
    fast = run(constant(20, 600, service_seconds=0.2))
    slow = run(constant(20, 600, service_seconds=0.8))
    assert fast.replicas[-1][1] == pytest.approx(4, abs=1)
    assert slow.replicas[-1][1] == pytest.approx(16, abs=2)


def test_schedules_go_by_when_the_trace_began() -> None:
    nine = {"schedules": [{"cron": "0 9 * * *", "durationMinutes": 5, "minReplicas": 7}], "maxReplicas": 20}
    given = latency_spec(5, autoscaling=nine)
    world = scene({0: 1}, seconds=600)
    at_nine = replay(world, Postfleet(given, began_at=9 * 3600 - 60.0))
    at_ten = replay(world, Postfleet(given, began_at=10 * 3600.0))
    assert (at_nine.outcome.max_replicas, at_ten.outcome.max_replicas) == (7, 1)


@pytest.mark.parametrize(("mode", "paused"), [("Manual", False), ("External", False), ("Recommend", True)])
def test_the_policy_is_replayed_whether_it_is_on_or_not(mode: str, paused: bool) -> None:
    given = latency_spec(5, autoscaling={"maxReplicas": 20}, mode=mode, paused=paused)
    world = constant(10, 200)
    assert run(world, given).outcome == run(world).outcome


def test_the_slo_is_the_pool_s_or_the_one_that_was_given() -> None:
    assert slo_seconds(SPEC, 9.0) == 5.0
    assert slo_seconds(spec(), 9.0) == 9.0
    own = latency_spec(
        30, autoscaling={"target": {"latencySeconds": 30, "queues": [{"name": "priority-high", "latencySeconds": 2}]}}
    )
    assert (judged_queue(own), slo_seconds(own, 9.0)) == ("retry", 30.0)


def test_all_policies_have_the_same_replicas_and_keda_the_real_throughput() -> None:
    world = scene_of(SPEC, constant(1, 60).trace, constant(1, 60, threads=16, service_seconds=2.0).shape)
    assert (world.least, world.most, world.slo_seconds) == (0, 20, 5.0)
    assert list_length(world) == 40
