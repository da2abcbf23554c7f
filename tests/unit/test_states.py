"""The states of a job: which may follow which."""

from __future__ import annotations

import pytest

from postfleet_workers.states import FINAL, MOVES, UNFINISHED, WAITING, State, may_move, sources

# One row per state, one column per state it may become: the whole table, written out once more by hand.
TABLE = """
            scheduled available executing retryable completed cancelled discarded
scheduled   -         yes       -         -         -         yes       -
available   yes       yes       yes       -         -         yes       yes
executing   yes       yes       -         yes       yes       yes       yes
retryable   -         yes       -         -         -         yes       yes
completed   -         yes       -         -         -         -         -
cancelled   -         yes       -         -         -         -         -
discarded   -         yes       -         -         -         -         -
"""
HEADER, *LINES = [line.split() for line in TABLE.strip().splitlines()]
MOVE_CASES = [
    pytest.param(State(name), State(to), answer == "yes", id=f"{name} -> {to}")
    for name, *answers in LINES
    for to, answer in zip(HEADER, answers, strict=True)
]


def test_the_table_covers_every_state() -> None:
    assert [State(name) for name, *_ in LINES] == list(State)
    assert {State(name) for name in HEADER} == set(State) == set(MOVES)


@pytest.mark.parametrize(("current", "to", "allowed"), MOVE_CASES)
def test_each_move_is_as_the_table_says(current: State, to: State, allowed: bool) -> None:
    assert may_move(current, to) is allowed


@pytest.mark.parametrize("to", State)
def test_sources_are_the_states_that_may_move_there(to: State) -> None:
    assert sources(to) == {state for state in State if may_move(state, to)}


def test_every_state_is_either_final_or_unfinished() -> None:
    assert set(State) == FINAL | UNFINISHED
    assert not FINAL & UNFINISHED
    assert UNFINISHED - {State.EXECUTING} == WAITING


@pytest.mark.parametrize("final", sorted(FINAL))
def test_a_final_state_is_left_only_by_a_retry(final: State) -> None:
    assert MOVES[final] <= {State.AVAILABLE}


@pytest.mark.parametrize("state", sorted(UNFINISHED))
def test_every_unfinished_state_can_be_cancelled(state: State) -> None:
    assert may_move(state, State.CANCELLED)


def test_only_what_executes_can_complete() -> None:
    assert sources(State.COMPLETED) == {State.EXECUTING}
    assert sources(State.EXECUTING) == {State.AVAILABLE}
