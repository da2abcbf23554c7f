"""The plan of a warmup."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.warmup import WarmupDay, cap

START = date(2026, 3, 1)
PLAN: dict[str, Any] = {
    "enabled": True,
    "startDate": "2026-03-01",
    "initialPerDay": 50,
    "growthFactor": "1.3",
    "targetPerDay": 200,
    "days": [],
}


def caps(plan: dict[str, Any], days: int) -> list[int | None]:
    """What the first days allow."""
    found = [cap(plan, START + timedelta(days=day)) for day in range(days)]
    return [None if day is None else day.cap for day in found]


def test_it_grows_by_the_factor_until_the_target_has_been_allowed_for_a_day() -> None:
    assert caps(PLAN, 8) == [50, 65, 84, 109, 142, 185, 200, None]


def test_explicit_days_win_and_growth_goes_on_from_the_last() -> None:
    assert caps({**PLAN, "days": [20, 28, 100]}, 7) == [20, 28, 100, 130, 169, 200, None]


def test_it_ends_with_the_explicit_days_where_they_reach_the_target() -> None:
    assert caps({**PLAN, "days": [150, 300]}, 3) == [150, 300, None]


def test_days_are_counted_from_one_and_the_first_cap_holds_before_it() -> None:
    assert cap(PLAN, START) == WarmupDay(1, 50)
    assert cap(PLAN, START - timedelta(days=3)) == WarmupDay(-2, 50)


@pytest.mark.parametrize("plan", [None, {}, {**PLAN, "enabled": False}, {"enabled": True}])
def test_no_plan_caps_nothing(plan: dict[str, Any] | None) -> None:
    assert cap(plan, START) is None


def test_what_a_spec_leaves_out_has_defaults() -> None:
    assert caps({"startDate": "2026-03-01"}, 2) == [50, 65]


@given(
    st.integers(1, 10**9),
    st.integers(1, 10**9),
    st.lists(st.integers(1, 10**9), max_size=5),
    st.decimals("1.01", "10", places=2),
    st.integers(-1000, 3_000_000),
)
def test_every_plan_ends_and_beyond_its_days_never_shrinks(
    initial: int, target: int, days: list[int], growth: object, day: int
) -> None:
    plan = {**PLAN, "initialPerDay": initial, "targetPerDay": target, "days": days, "growthFactor": str(growth)}
    today = min(START + timedelta(days=min(day, 2_900_000)), date(9999, 12, 30))
    now, later = cap(plan, today), cap(plan, today + timedelta(days=1))
    if now is None:
        assert later is None
    elif later is not None and now.day >= len(days):
        assert later.cap >= now.cap
    assert cap(plan, date(9999, 12, 31)) is None
