"""What of a wait is the limit's and what the fleet's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_operator.simulation.fleet import Fleet, Shape
from postfleet_operator.simulation.limit import Limit

TIMES = st.lists(st.floats(0, 60, allow_nan=False).map(lambda at: round(at, 2)), min_size=1, max_size=60).map(sorted)


def settled(arrivals: list[float], shape: Shape, *, replicas: int = 1, late_seconds: float = 0.0) -> Fleet:
    """A fleet that was asked for `late_seconds` too late, at the end of its work."""
    fleet = Fleet(arrivals, len(arrivals), shape, 0)
    fleet.advance(late_seconds)
    fleet.scale(replicas)
    while not fleet.drained:
        fleet.advance(fleet.now + 10.0)
    return fleet


def test_a_job_waits_for_the_limit_alone_while_threads_are_free() -> None:
    fleet = settled([0.0] * 6, Shape(10, 1.0, 0.0, 2.0))
    assert list(fleet.starts) == [0.0, 0.0, 0.0, 0.5, 1.0, 1.5]
    assert list(fleet.waits(fleet.now)) == [0.0] * 6


def test_a_late_fleet_is_counted_against_those_who_were_there() -> None:
    fleet = settled([0.0] * 6, Shape(10, 1.0, 0.0, 2.0), late_seconds=7.0)
    assert list(fleet.waits(fleet.now)) == pytest.approx([7.0] * 6)


def test_whoever_comes_after_the_fleet_has_caught_up_inherits_no_delay() -> None:
    fleet = settled([k / 4 for k in range(400)], Shape(10, 1.0, 0.0, 2.0), late_seconds=7.0)
    waits = fleet.waits(fleet.now)
    assert max(waits) == pytest.approx(7.0)
    assert [wait > 0 for wait in waits] == [k / 4 <= 7.0 for k in range(400)]
    assert fleet.starts[-1] > 200  # which is the limit's doing


def test_too_few_threads_below_the_limit_count_in_full() -> None:
    slow = settled([0.0] * 8, Shape(1, 1.0, 0.0, 100.0))
    assert list(slow.waits(slow.now)) == [float(k) for k in range(8)]


def test_jobs_that_never_begin_wait_from_when_the_limit_would_let_them() -> None:
    fleet = Fleet([0.0] * 4, 4, Shape(1, 1.0, 0.0, 1.0), 0)
    fleet.advance(10.0)
    assert list(fleet.waits(10.0)) == [10.0, 10.0, 9.0, 8.0]


def test_a_limit_permits_what_it_has_not_given_away() -> None:
    limit = Limit(2.0)
    assert limit.permits(0.0, 60.0) == 122
    limit.begin(0.0, 0.0, 0.0)
    assert limit.permits(0.0, 60.0) == 121
    assert limit.permits(10.0, 60.0) == 122


@given(TIMES, st.sampled_from([0.5, 3.0]), st.integers(1, 3), st.floats(0, 20))
def test_waits_are_never_negative_nor_longer_than_from_the_arrival(
    arrivals: list[float], rate: float, replicas: int, late_seconds: float
) -> None:
    fleet = settled(arrivals, Shape(1, 1.0, 5.0, rate), replicas=replicas, late_seconds=late_seconds)
    waits = fleet.waits(fleet.now)
    assert len(waits) == len(arrivals)
    assert all(
        0.0 <= wait <= begun - arrival + 1e-6
        for wait, begun, arrival in zip(waits, fleet.starts, arrivals, strict=True)
    )


@given(TIMES)
def test_a_limit_that_never_binds_changes_no_wait(arrivals: list[float]) -> None:
    free, limited = (settled(arrivals, Shape(1, 1.0, 5.0, rate)) for rate in (None, 1e6))
    assert list(limited.waits(limited.now)) == pytest.approx(list(free.waits(free.now)), abs=1e-3)
