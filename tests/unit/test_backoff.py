"""When to try again after a failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.backoff import CEILING_SECONDS, exponential

ATTEMPTS = st.integers(1, 10_000)
BASES = st.floats(0.01, 600)
JITTERS = st.floats(0, 1, exclude_max=True)


@pytest.mark.parametrize(
    ("attempt", "jitter", "seconds"),
    [
        pytest.param(1, 0.0, 7.5, id="first, shortest"),
        pytest.param(1, 0.5, 11.25, id="first, middle"),
        pytest.param(2, 0.0, 15.0, id="second is twice the first"),
        pytest.param(3, 0.0, 30.0, id="third is four times the first"),
        pytest.param(8, 0.0, 960.0, id="eighth"),
        pytest.param(9, 0.0, 1800.0, id="ninth meets the ceiling of an hour"),
        pytest.param(10_000, 0.0, 1800.0, id="far beyond the ceiling"),
    ],
)
def test_it_doubles_from_the_base_up_to_the_ceiling(attempt: int, jitter: float, seconds: float) -> None:
    assert exponential(attempt, 15.0, jitter) == seconds


@given(ATTEMPTS, BASES, JITTERS)
def test_at_least_half_of_the_wait_is_certain_and_none_is_longer_than_the_ceiling(
    attempt: int, base: float, jitter: float
) -> None:
    full = min(CEILING_SECONDS, base * 2 ** min(attempt - 1, 40))
    assert full / 2 <= exponential(attempt, base, jitter) <= full


@given(ATTEMPTS, BASES, JITTERS)
def test_a_later_attempt_never_waits_less_for_the_same_jitter(attempt: int, base: float, jitter: float) -> None:
    assert exponential(attempt, base, jitter) <= exponential(attempt + 1, base, jitter)


@given(ATTEMPTS, BASES, JITTERS, st.floats(0.01, 100))
def test_the_ceiling_is_the_callers(attempt: int, base: float, jitter: float, ceiling: float) -> None:
    assert exponential(attempt, base, jitter, ceiling) <= ceiling


@pytest.mark.parametrize("attempt", [0, -1])
def test_attempts_count_from_one(attempt: int) -> None:
    with pytest.raises(ValueError, match="counts from 1"):
        exponential(attempt, 15.0, 0.0)
