"""λ from the relay's balance: what was put on offer, plus the growth of what was not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay.arrivals import HALF_LIFE_SECONDS, Arrivals

A, B = ("acme", "", ""), ("other", "", "")


def steady(looks: int, due: list[int], published: int, elapsed: float = 0.5) -> Arrivals:
    found = Arrivals()
    for number in range(looks):
        found = found.look({A: due[number % len(due)]}, {A: published}, elapsed)
    return found


def test_what_was_there_at_the_first_look_has_not_arrived() -> None:
    assert Arrivals().look({A: 100_000}, {A: 50}, 0.0).per_second == 0.0


def test_a_steady_stream_is_its_rate() -> None:
    assert steady(200, [0], 10).per_second == pytest.approx(20.0)


def test_a_full_pipe_hides_nothing() -> None:
    found = Arrivals().look({A: 0}, {}, 0.0)
    for number in range(1, 200):
        found = found.look({A: 100 * number}, {}, 0.5)
    assert found.per_second == pytest.approx(200.0)


def test_a_backlog_that_is_worked_off_is_no_arrival() -> None:
    found = Arrivals().look({A: 1000}, {}, 0.0)
    for left in range(950, -50, -50):
        found = found.look({A: left}, {A: 50}, 0.5)
    assert found.per_second == 0.0


def test_half_of_it_is_forgotten_in_a_half_life() -> None:
    found = steady(400, [0], 10)
    for _ in range(int(HALF_LIFE_SECONDS / 0.5)):
        found = found.look({}, {}, 0.5)
    assert found.per_second == pytest.approx(10.0, rel=0.1)


def test_one_burst_after_a_start_is_not_blown_up() -> None:
    found = Arrivals().look({}, {}, 0.0).look({A: 1000}, {}, 0.5)
    assert found.per_second < 200


@pytest.mark.parametrize(
    ("before", "now", "published", "came"),
    [
        pytest.param({A: 5}, {A: 7}, {}, 2, id="grew"),
        pytest.param({A: 5}, {}, {A: 5}, 0, id="all of it was offered"),
        pytest.param({}, {A: 7}, {A: 3}, 10, id="a new group"),
        pytest.param({A: 5}, {A: None}, {A: 3}, 3, id="a limit began to hold it"),
        pytest.param({A: None}, {A: 900}, {A: 3}, 3, id="a limit ceased to hold it"),
        pytest.param({A: None}, {A: None}, {A: 3}, 3, id="what the limit let through"),
        pytest.param({A: 500}, {}, {}, 0, id="cancelled"),
        pytest.param({A: 500, B: 0}, {B: 300}, {}, 0, id="cancelled more than came"),
    ],
)
def test_what_came_between_two_looks(
    before: dict[tuple[str, str, str], int | None],
    now: dict[tuple[str, str, str], int | None],
    published: dict[tuple[str, str, str], int],
    came: int,
) -> None:
    found = Arrivals().look(before, {}, 0.0).look(now, published, HALF_LIFE_SECONDS)
    assert found.smoothed == pytest.approx(came / HALF_LIFE_SECONDS / 2)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(0, 500)), min_size=1, max_size=30))
def test_never_negative_and_never_more_than_the_fastest_look(looks: list[tuple[int, int]]) -> None:
    found, before, fastest = Arrivals().look({A: 0}, {}, 0.0), 0, 0.0
    for due, published in looks:
        fastest = max(fastest, (published + due - before) / 0.5)
        found, before = found.look({A: due}, {A: published}, 0.5), due
    assert 0.0 <= found.per_second <= fastest + 1e-9
