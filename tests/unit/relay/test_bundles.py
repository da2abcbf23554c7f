"""How many jobs one message carries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay.bundles import chunks, size, spread

LIMITS = st.integers(1, 50)
PACES = st.none() | st.floats(0, 600).map(lambda seconds: round(seconds, 6))  # as the pace is written
PREVIOUS = st.none() | st.integers(1, 50)


@pytest.mark.parametrize(
    ("previous", "pace", "expected"),
    [
        pytest.param(None, None, 1, id="a new route starts with one"),
        pytest.param(None, 0.001, 1, id="even if others have measured it"),
        pytest.param(16, None, 1, id="nothing is measured: one"),
        pytest.param(1, 0.001, 2, id="then it doubles"),
        pytest.param(16, 0.001, 32, id="and doubles"),
        pytest.param(32, 0.001, 50, id="up to the type's limit"),
        pytest.param(32, 0.1, 10, id="a second's work at 100 ms each"),
        pytest.param(10, 0.5, 2, id="it falls at once when the receiver slows down"),
        pytest.param(10, 1.0, 1, id="one at a second each"),
        pytest.param(10, 30.0, 1, id="never less than one"),
        pytest.param(32, 0.0, 50, id="too fast to measure"),
    ],
)
def test_a_bundle_holds_about_a_second_of_measured_work(
    previous: int | None, pace: float | None, expected: int
) -> None:
    assert size(limit=50, previous=previous, pace_seconds=pace, target_seconds=1.0) == expected


@given(LIMITS, PREVIOUS, PACES, st.floats(0.1, 10))
def test_a_size_is_within_one_and_the_types_limit_and_at_most_doubles(
    limit: int, previous: int | None, pace: float | None, target: float
) -> None:
    found = size(limit=limit, previous=previous, pace_seconds=pace, target_seconds=target)
    assert 1 <= found <= limit
    assert found <= 2 * (previous or 1)


@given(LIMITS, st.floats(0.000001, 600), st.floats(0.1, 10))
def test_a_measured_route_settles_at_the_work_asked_for(limit: int, pace: float, target: float) -> None:
    found = None
    for _ in range(8):
        found = size(limit=limit, previous=found, pace_seconds=pace, target_seconds=target)
    assert found == max(1, min(limit, int(target / pace)))


@pytest.mark.parametrize(
    ("due", "slots", "expected"),
    [
        pytest.param(1000, 8, 50, id="plenty: full bundles"),
        pytest.param(40, 8, 5, id="little: shared by all slots"),
        pytest.param(41, 8, 6, id="rounded up"),
        pytest.param(3, 8, 1, id="less than the slots"),
        pytest.param(0, 8, 1, id="nothing due"),
        pytest.param(40, 0, 40, id="no slot"),
        pytest.param(40, -3, 40, id="more in the pipe than fits"),
    ],
)
def test_little_work_is_shared_by_more_threads(due: int, slots: int, expected: int) -> None:
    assert spread(50, due=due, slots=slots) == expected


@given(LIMITS, st.integers(0, 10_000), st.integers(1, 500))
def test_spread_work_still_fits_the_slots_if_full_bundles_did(full: int, due: int, slots: int) -> None:
    found = spread(full, due=due, slots=slots)
    assert 1 <= found <= full
    assert -(-due // found) <= max(slots, -(-due // full))


@given(st.lists(st.integers()), st.integers(1, 60))
def test_chunks_keep_every_item_in_order_and_none_is_too_big(items: list[int], most: int) -> None:
    found = list(chunks(items, most))
    assert [item for chunk in found for item in chunk] == items
    assert all(len(chunk) == most for chunk in found[:-1])
    assert all(1 <= len(chunk) <= most for chunk in found)
