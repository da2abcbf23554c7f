"""How `make bench-limits` judges what arrived."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import LEAST_USE, Use, use, worst_window


@pytest.mark.parametrize(
    ("times", "worst"),
    [
        pytest.param([], 0, id="nothing arrived"),
        pytest.param([5.0], 1, id="one"),
        pytest.param([0.0, 59.9], 2, id="within a minute"),
        pytest.param([0.0, 60.0], 1, id="a minute apart"),
        pytest.param([0.0, 0.0, 61.0, 62.0, 63.0], 3, id="the fuller of two"),
        pytest.param([0.0, 58.0, 59.0, 61.0, 62.0], 4, id="over the turn of a minute"),
    ],
)
def test_the_fullest_window_wherever_it_lies(times: list[float], worst: int) -> None:
    assert worst_window(times) == worst


@given(st.lists(st.integers(0, 300).map(float), max_size=60).map(sorted), st.integers(1, 90).map(float))
def test_no_window_holds_more_and_one_holds_as_many(times: list[float], seconds: float) -> None:
    held = [sum(at - seconds < other <= at for other in times) for at in times]
    assert worst_window(times, seconds) == max(held, default=0)


def test_use_is_the_share_of_what_the_measured_time_let_through() -> None:
    times = [float(second) for second in range(-60, 120)]
    found = use("node-1 gmail", 60, times, begun=0.0, ended=119.0, binds=True)
    assert (found.arrived, found.worst) == (180, 60)
    assert found.used == pytest.approx(120 / 119)


@pytest.mark.parametrize(
    ("worst", "used", "binds", "good"),
    [
        pytest.param(60, LEAST_USE, True, True, id="full and never above"),
        pytest.param(61, 1.0, True, False, id="above"),
        pytest.param(60, LEAST_USE - 0.01, True, False, id="too little used"),
        pytest.param(10, 0.2, False, True, id="little used, as another limit binds"),
        pytest.param(61, 0.2, False, False, id="above, though another limit binds"),
    ],
)
def test_a_limit_is_held_and_used(worst: int, used: float, binds: bool, good: bool) -> None:
    assert Use("node-1 gmail", 60, 100, worst, used, binds).good is good
