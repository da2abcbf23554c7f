"""A replay's sums: worked by hand, consistent with its own curves, and the same every time."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_operator.errors import InputError
from postfleet_operator.simulation import policies
from postfleet_operator.simulation.fleet import Fleet
from postfleet_operator.simulation.keda import Keda, ScaledObject
from postfleet_operator.simulation.replay import (
    PATIENCE_SECONDS,
    Replay,
    Scene,
    check_length,
    percentile,
    replay,
    replay_within,
)
from unit.operator.building import latency_spec
from unit.operator.simulation.scenes import scene

SPEC = latency_spec(5, autoscaling={"maxReplicas": 8})
TRAFFIC = st.dictionaries(st.integers(0, 200), st.integers(1, 60), min_size=1, max_size=12)


class Fixed:
    """A policy that asks for what a timetable says."""

    def __init__(self, *timetable: tuple[float, int]) -> None:
        self._timetable = list(timetable)
        self.next_at = timetable[0][0] if timetable else 1e12

    def look(self, fleet: Fleet) -> int | None:
        _, replicas = self._timetable.pop(0)
        self.next_at = self._timetable[0][0] if self._timetable else fleet.now + 1.0
        if not self._timetable:
            self._timetable = [(self.next_at, replicas)]
        return replicas


def test_the_sums_worked_by_hand() -> None:
    # Two jobs at 10.25 and 10.75 on one replica asked for at 11: Ready at 16, begun at 16 and 17, over at 18.
    outcome = replay(scene({10: 2}, seconds=15), Fixed((11.0, 1))).outcome
    assert outcome.as_json() == {
        "wait_p50_seconds": 5.75,
        "wait_p95_seconds": 6.25,
        "wait_p99_seconds": 6.25,
        "slo_miss_fraction": 1.0,
        "replica_hours": round(7 / 3600, 6),
        "scale_changes": 1,
        "max_replicas": 1,
    }


def test_a_wait_of_exactly_the_slo_is_in_time() -> None:
    assert replay(scene({0: 1}, seconds=10, slo_seconds=5.5), Fixed((1.0, 1))).outcome.slo_miss_fraction == 0.0


def test_a_policy_that_never_works_waits_for_ever_and_the_replay_ends() -> None:
    run = replay(scene({0: 4}, seconds=10), Fixed((0.0, 0)))
    assert run.outcome.slo_miss_fraction == 1.0
    assert (len(run.starts), len(run.waits), run.outcome.replica_hours) == (0, 4, 0.0)
    assert run.outcome.wait_p50_seconds > PATIENCE_SECONDS


def test_what_a_limit_holds_counts_for_no_policy() -> None:
    run = replay(scene({0: 20}, least=20, permitted_rate=2.0), Fixed((1.0, 20)))
    assert max(run.waits) == pytest.approx(0.0)
    assert run.starts[-1] == pytest.approx(0.025 + 19 / 2.0 - 1.0)
    assert run.outcome.slo_miss_fraction == 0.0


def test_progress_rises_to_the_end() -> None:
    told: list[float] = []
    replay(scene({0: 4}, seconds=300), Fixed((0.0, 1)), told.append)
    assert told == sorted(told)
    assert 0.95 <= told[-1] <= 1.0


def test_progress_does_not_stand_still_where_a_limit_makes_a_replay_longer_than_its_trace() -> None:
    told: list[float] = []
    replay(scene({0: 100}, seconds=10, least=1, permitted_rate=0.5), Fixed((0.0, 1)), told.append)
    assert len({round(share, 2) for share in told}) > 50


def test_a_replay_that_costs_more_than_it_may_is_given_up() -> None:
    world = scene({0: 1}, seconds=300, least=2)
    cost = replay(world, Fixed((1.0, 2))).outcome.replica_hours * 3600
    assert replay_within(world, Fixed((1.0, 2)), cost - 10) is None
    run = replay_within(world, Fixed((1.0, 2)), cost)
    assert run is not None
    assert run.outcome == replay(world, Fixed((1.0, 2))).outcome


@pytest.mark.parametrize(
    ("world", "told"),
    [
        pytest.param(
            scene({0: 9}, permitted_rate=1e-9),
            "--permitted-rate 1e-09: 9 jobs take longer than 31 days at that rate; give at least 3.6e-06, or a shorter",
            id="limit",
        ),
        pytest.param(
            scene({0: 9000}, most=1, service_seconds=900),
            "9,000 jobs of 900 s take 1 replicas of 1 threads longer than 31 days; raise maxReplicas, or give a",
            id="work",
        ),
    ],
)
def test_what_takes_longer_than_a_trace_may_is_refused(world: Scene, told: str) -> None:
    with pytest.raises(InputError) as caught:
        check_length(world)
    assert str(caught.value).startswith(told)


def test_the_least_rate_that_is_named_is_taken() -> None:
    check_length(scene({0: 9}, permitted_rate=3.6e-06))


@pytest.mark.parametrize(("fraction", "value"), [(0.5, 2), (0.51, 3), (0.95, 4), (0.0, 1), (1.0, 4)])
def test_percentiles_are_values_that_were_seen(fraction: float, value: int) -> None:
    assert percentile([1, 2, 3, 4], fraction) == value


def test_a_million_jobs_of_a_day_take_seconds() -> None:
    day = scene(dict.fromkeys(range(86_400), 12), seconds=86_400, threads=16)
    began = time.perf_counter()
    run = replay(day, Keda(ScaledObject(0, 20, list_length=80)))
    assert len(run.starts) == 1_036_800
    assert time.perf_counter() - began < 30, "about two on a quiet machine"


def all_policies(counts: dict[int, int], rate: float | None) -> tuple[Scene, dict[str, Replay]]:
    world = scene(counts, seconds=240, most=8, threads=2, service_seconds=1.5, permitted_rate=rate)
    return world, {name: replay(world, make()) for name, make in policies.makers(SPEC, world).items()}


@settings(max_examples=25, deadline=None)
@given(TRAFFIC, st.sampled_from([None, 4.0]))
def test_what_holds_for_every_policy_and_every_trace(counts: dict[int, int], rate: float | None) -> None:
    world, runs = all_policies(counts, rate)
    jobs = sum(counts.values())
    for name, run in runs.items():
        outcome = run.outcome
        assert len(run.starts) == len(run.waits) == len(run.arrivals) == jobs, name
        assert min(run.waits) >= 0
        assert outcome.wait_p50_seconds <= outcome.wait_p95_seconds <= outcome.wait_p99_seconds
        assert 0 <= outcome.slo_miss_fraction <= 1
        assert 1 <= outcome.max_replicas <= world.most
        assert all(world.least <= replicas <= world.most for _, replicas in run.replicas)
        assert outcome.scale_changes == len(run.replicas) - 1
        steps = [*run.replicas, (run.seconds, 0)]
        wanted = sum(replicas * (until - since) for (since, replicas), (until, _) in itertools.pairwise(steps))
        paid = outcome.replica_hours * 3600
        # Draining is paid for too; nothing is done for free.
        assert paid >= wanted - 1e-6
        assert paid * world.shape.threads >= jobs * world.shape.service_seconds - 1e-6
    again = all_policies(counts, rate)[1]
    assert {name: run.outcome for name, run in runs.items()} == {name: run.outcome for name, run in again.items()}
