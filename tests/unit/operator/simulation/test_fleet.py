"""The virtual fleet: worked by hand, against a plain retelling, and what holds for any scaling at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_operator.simulation.fleet import Fleet, Shape, grain
from postfleet_operator.simulation.limit import BURST_SECONDS
from unit.operator.simulation.worlds_of_jobs import fleet, plainly, settle

TIMES = st.lists(st.floats(0, 120), min_size=1, max_size=60).map(sorted)
STEPS = st.lists(st.tuples(st.floats(0.1, 20), st.integers(0, 6)), max_size=12)


def test_two_threads_do_four_jobs_in_two_rounds() -> None:
    assert settle(fleet([0.0] * 4, threads=2)) == [0.0, 0.0, 1.0, 1.0]


def test_a_replica_works_once_it_has_started() -> None:
    world = fleet([0.0, 0.0], replicas=0)
    world.advance(2.0)
    world.scale(2)
    assert (world.replicas, world.view().ready, settle(world)) == (2, 0, [7.0, 7.0])


def test_nobody_works_in_an_empty_fleet() -> None:
    world = fleet([0.0], replicas=0)
    world.advance(100.0)
    assert (world.view().waiting, world.view().oldest_seconds, world.drained) == (1, 100.0, False)


def test_a_replica_that_stops_ends_its_jobs_and_takes_no_more() -> None:
    world = fleet([0.0, 0.0, 0.5, 0.5], replicas=2, service_seconds=10.0)
    world.advance(1.0)
    world.scale(1)
    view = world.view()
    assert (view.running, view.threads, view.replicas) == (2, 2, 1)
    world.advance(30.0)
    assert list(world.starts) == [0.0, 0.0, 10.0, 20.0]
    # One until the end, the other until its last job has ended.
    assert world.replica_seconds(30.0) == 30.0 + 10.0


def test_replicas_that_have_not_started_go_first_and_at_once() -> None:
    world = fleet([0.0], replicas=1, service_seconds=10.0)
    world.scale(3)
    world.advance(2.0)
    world.scale(1)
    assert (world.view().ready, world.replica_seconds(10.0)) == (1, 10.0 + 2 * 2.0)


def test_the_idle_ones_go_before_the_busy_ones() -> None:
    world = fleet([0.0], replicas=3, service_seconds=10.0)
    world.advance(1.0)
    world.scale(1)
    assert world.view().threads == 1
    assert world.view().running == 1


def test_waiting_jobs_move_to_those_who_stay() -> None:
    world = fleet([0.0] * 3, replicas=2)
    world.advance(0.5)
    world.scale(0)
    world.advance(50.0)
    assert (list(world.starts), world.view().waiting, world.view().completed) == ([0.0, 0.0], 1, 2)


def test_a_limit_lets_jobs_begin_at_its_rate_after_a_burst_of_one_second() -> None:
    starts = settle(fleet([0.0] * 6, replicas=10, permitted_rate=2.0))
    assert starts == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]


def test_what_a_limit_holds_for_longer_than_a_minute_is_throttled() -> None:
    world = fleet([0.0] * 1000, replicas=1, permitted_rate=2.0)
    world.advance(0.0)
    view = world.view()
    assert view.free + view.throttled == view.waiting
    assert view.free == pytest.approx(60 * 2, abs=2)


def test_huge_traces_move_several_jobs_at_once_on_as_many_threads() -> None:
    assert [grain(jobs, 16) for jobs in (1_000_000, 3_000_000, 20_000_000, 10**9)] == [1, 2, 16, 16]
    exact = Fleet([0.0] * 8, 8, Shape(4), 1)
    coarse = Fleet([0.0] * 4, 8, Shape(4), 1, size=2)
    assert settle(exact)[::2] == settle(coarse)
    assert exact.view().completed == coarse.view().completed == 8


@given(TIMES, st.integers(1, 5), st.sampled_from([0.25, 1.0, 7.0]))
def test_it_does_what_a_plain_queue_does(arrivals: list[float], servers: int, service: float) -> None:
    world = fleet(arrivals, replicas=servers, service_seconds=service)
    assert settle(world) == pytest.approx(plainly(arrivals, servers, service))


@settings(max_examples=200)
@given(TIMES, STEPS, st.integers(0, 3), st.integers(1, 3), st.sampled_from([None, 0.5, 3.0]))
def test_nothing_is_lost_early_or_done_by_nobody(
    arrivals: list[float], steps: list[tuple[float, int]], replicas: int, threads: int, rate: float | None
) -> None:
    shape = Shape(threads, 2.0, 3.0, rate)
    world, paid, now = Fleet(arrivals, len(arrivals), shape, replicas), 0.0, 0.0
    for seconds, wanted in [*steps, (5.0, 1), (10_000.0, 1)]:
        before = world.replicas
        now += seconds
        world.advance(now)
        paid += before * seconds
        view = world.view()
        assert 0 <= view.completed <= view.begun <= view.arrived <= len(arrivals)
        assert view.waiting + view.begun == view.arrived
        assert view.free >= 0
        assert view.throttled >= 0
        assert 0 <= view.running <= view.threads
        world.scale(wanted)
        assert world.replicas == wanted
    assert world.drained
    starts = list(world.starts)
    assert starts == sorted(starts)
    assert all(begun >= arrival for begun, arrival in zip(starts, arrivals, strict=True))
    # What is asked for is paid for; draining is what comes on top, at most the last job of each.
    assert paid - 1e-6 <= world.replica_seconds(now) <= paid + len(world.everyone) * shape.service_seconds + 1e-6
    if rate is not None:
        for k, begun in enumerate(starts):
            within = sum(begun <= start <= begun + 10.0 for start in starts[k:])
            assert within <= rate * (10.0 + BURST_SECONDS) + 1 + 1e-6
