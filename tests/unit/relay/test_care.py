"""Which messages are kept and which are deleted."""

from __future__ import annotations

import pytest

from postfleet_workers.relay.care import sort
from postfleet_workers.relay.queue import Message

MEANT = {(1, 1): False, (2, 1): False, (3, 1): True}  # the third executes
LIVE = {"alive"}
SINCE_MS = 1000.0


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        pytest.param(Message("m", ((1, 1),), True, None), True, id="waits, and its row is on offer"),
        pytest.param(Message("m", ((1, 1), (9, 1)), True, None), True, id="waits, and one of its rows is on offer"),
        pytest.param(Message("m", ((9, 1),), True, None), False, id="waits, but its row has moved on"),
        pytest.param(Message("m", ((1, 2),), True, None), False, id="waits, but was published again since"),
        pytest.param(Message("m", (), True, None), False, id="waits, but is not ours"),
        pytest.param(Message("m", ((1, 1),), False, "alive", 1000), True, id="fetched by a live worker"),
        pytest.param(Message("m", ((1, 1),), False, "alive", 999), False, id="fetched long ago and never claimed"),
        pytest.param(Message("m", ((1, 1),), True, None, 999), True, id="old, but it waits"),
        pytest.param(Message("m", ((3, 1),), False, "alive", 999), True, id="fetched long ago, and executes"),
        pytest.param(Message("m", ((1, 1), (3, 1)), False, "alive", 999), True, id="fetched long ago, one executes"),
        pytest.param(Message("m", ((3, 1),), False, "dead", 1000), False, id="executes in a dead worker"),
        pytest.param(Message("m", ((9, 1),), False, "alive", 1000), False, id="fetched, but its row has moved on"),
        pytest.param(Message("m", ((1, 1),), False, "dead"), False, id="fetched by a dead worker"),
        pytest.param(Message("m", ((1, 1),), False, None), False, id="orphan: neither waits nor fetched"),
        pytest.param(Message("m", ((1, 1),), True, "dead"), True, id="given back by a worker that died: waits"),
    ],
)
def test_a_message_is_kept_while_someone_can_run_it_and_it_means_something(message: Message, kept: bool) -> None:
    assert sort([message], MEANT, LIVE, SINCE_MS) == (([message], []) if kept else ([], [message]))


def test_order_is_kept() -> None:
    messages = [Message(str(n), ((7 + n % 3, 1),), True, None) for n in range(9)]
    kept, dropped = sort(messages, {(7, 1): False, (8, 1): True}, LIVE, SINCE_MS)
    assert [m.id for m in kept] == ["0", "1", "3", "4", "6", "7"]
    assert [m.id for m in dropped] == ["2", "5", "8"]
