"""Which replicas start and which stop."""

from __future__ import annotations

import pytest

from postfleet_local.rollout import Plan, View, backoff_seconds, crashes_in_row, plan


def view(number: int, *, template: str = "new", ready: bool = True, named: bool = False) -> View:
    return View(f"email-{template}-{number}", number, template, ready, named)


@pytest.mark.parametrize(
    ("replicas", "desired", "expected"),
    [
        pytest.param([], 3, Plan(3, ()), id="from zero"),
        pytest.param([view(1), view(2)], 2, Plan(0, ()), id="nothing to do"),
        pytest.param([view(1)], 3, Plan(2, ()), id="up"),
        pytest.param([view(1), view(2), view(3)], 1, Plan(0, ("email-new-2", "email-new-3")), id="youngest first"),
        pytest.param([view(1, ready=False), view(2)], 1, Plan(0, ("email-new-1",)), id="not ready goes first"),
        pytest.param([view(1, named=True), view(2)], 1, Plan(0, ("email-new-1",)), id="one that is named goes first"),
        pytest.param(
            [view(1, named=True), view(2, ready=False)], 1, Plan(0, ("email-new-2",)), id="after one that is not ready"
        ),
        pytest.param([view(1), view(2)], 0, Plan(0, ("email-new-1", "email-new-2")), id="to zero"),
        pytest.param([view(1, template="old")], 1, Plan(1, ()), id="a new one starts before the old one stops"),
        pytest.param(
            [view(1, template="old"), view(2, ready=False)], 1, Plan(0, ()), id="the old one stays until it is ready"
        ),
        pytest.param([view(1, template="old"), view(2)], 1, Plan(0, ("email-old-1",)), id="then the old one stops"),
        pytest.param(
            [view(1, template="old"), view(2, template="old"), view(3), view(4, ready=False)],
            2,
            Plan(0, ("email-old-2",)),
            id="one old for each new that is ready",
        ),
        pytest.param([view(1, template="old"), view(2)], 0, Plan(0, ("email-new-2", "email-old-1")), id="all to zero"),
    ],
)
def test_plan(replicas: list[View], desired: int, expected: Plan) -> None:
    assert plan(replicas, desired, "new") == expected


def test_backoff_doubles_up_to_half_a_minute() -> None:
    assert [backoff_seconds(n) for n in range(1, 8)] == [1, 2, 4, 8, 16, 30, 30]


def test_a_replica_that_ran_for_a_minute_starts_to_count_anew() -> None:
    assert crashes_in_row(5, ran_seconds=61) == 1
    assert crashes_in_row(5, ran_seconds=3) == 6
