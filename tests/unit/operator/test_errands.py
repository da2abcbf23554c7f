"""What may be done a little later: its order, what gives way, and its end."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
from structlog.testing import capture_logs

from postfleet_operator.errands import Errands


class Slow:
    """Errands whose first one lasts until it is told to go on."""

    def __init__(self) -> None:
        self.errands = Errands()
        self.done: list[str] = []
        self.go_on = threading.Event()
        begun = threading.Event()

        def first() -> None:
            begun.set()
            self.go_on.wait()

        self.errands.put("first", first, kept=True)
        begun.wait()

    def put(self, key: str, name: str, *, kept: bool) -> None:
        self.errands.put(key, self.note(name), kept=kept)

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.done.append(name)

    def end(self) -> list[str]:
        self.go_on.set()
        self.errands.end(60)
        return self.done


@pytest.fixture
def slow() -> Iterator[Slow]:
    slow = Slow()
    yield slow
    slow.end()


def test_the_newest_takes_the_place_of_what_waits_unless_that_is_kept(slow: Slow) -> None:
    for number in range(100):
        slow.put("a", f"a{number}", kept=number in (3, 7))
    assert slow.end() == ["a3", "a7", "a99"]


def test_keys_take_turns_and_each_keeps_its_order(slow: Slow) -> None:
    for name in ("a1", "a2", "a3", "b1", "b2"):
        slow.put(name[0], name, kept=True)
    assert slow.end() == ["a1", "b1", "a2", "b2", "a3"]


def test_a_crash_ends_nothing(slow: Slow) -> None:
    def crash() -> None:
        raise RuntimeError("not foreseen")

    with capture_logs() as logs:  # wherever a command that ran before in this process lets them go
        slow.errands.put("a", crash, kept=True)
        slow.put("b", "b", kept=True)
        assert slow.end() == ["b"]
    assert [entry["event"] for entry in logs] == ["errand_crashed"]


def test_the_end_does_not_wait_longer_than_told_and_runs_nothing_afterwards(slow: Slow) -> None:
    slow.put("a", "a", kept=True)
    slow.errands.end(0.01)
    slow.put("b", "b", kept=True)
    assert slow.end() == []


def test_none_begins_while_they_are_held(slow: Slow) -> None:
    with slow.errands.held():
        slow.put("a", "a", kept=True)
        slow.go_on.set()
        slow.errands.end(0.05)
        assert slow.done == []


def test_an_end_without_errands_is_immediate() -> None:
    Errands().end(0)
