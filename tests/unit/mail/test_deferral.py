from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.replies.deferral import JITTER, LONGEST_SECONDS, next_wait_seconds, wait_seconds

DAY = 86_400.0


@pytest.mark.parametrize(
    ("deferrals", "minutes"), [(0, 5), (1, 10), (2, 20), (3, 40), (6, 320), (7, 360), (10_000, 360)]
)
def test_the_wait_starts_at_five_minutes_and_doubles_up_to_six_hours(deferrals: int, minutes: int) -> None:
    assert wait_seconds(deferrals, base_seconds=300, jitter=0) == minutes * 60


def test_a_first_wait_that_is_set_longer_is_the_longest() -> None:
    assert {wait_seconds(n, base_seconds=2 * LONGEST_SECONDS, jitter=0) for n in (0, 1, 9)} == {2 * LONGEST_SECONDS}


@given(st.integers(0, 100), st.floats(0, 1, exclude_max=True))
def test_jitter_only_adds(deferrals: int, jitter: float) -> None:
    least = wait_seconds(deferrals, base_seconds=300, jitter=0)
    assert least <= wait_seconds(deferrals, base_seconds=300, jitter=jitter) <= least * (1 + JITTER)


@given(st.integers(0, 50), st.floats(0, 10 * DAY), st.floats(0, 1, exclude_max=True))
def test_no_try_is_made_after_the_maximum_age_and_the_last_is_made_at_it(
    deferrals: int, age: float, jitter: float
) -> None:
    wait = next_wait_seconds(deferrals, age, base_seconds=300, max_age_seconds=5 * DAY, jitter=jitter)
    if age >= 5 * DAY:
        assert wait is None
    else:
        assert wait is not None
        assert wait > 0
        assert age + wait <= 5 * DAY * (1 + 1e-9)


@pytest.mark.parametrize(("jitter", "expected"), [(0.0, 26), (0.5, 24), (1.0, 22)])
def test_five_days_hold_two_dozen_tries(jitter: float, expected: int) -> None:
    age, tries = 0.0, 0
    while (wait := next_wait_seconds(tries, age, base_seconds=300, max_age_seconds=5 * DAY, jitter=jitter)) is not None:
        age += wait
        tries += 1
    assert tries == expected
