"""Which messages are kept and which are deleted."""

from __future__ import annotations

import pytest

from postfleet_workers.relay.care import sort
from postfleet_workers.relay.queue import Message

MEANT = {(1, 1), (2, 1)}
LIVE = {"alive"}


@pytest.mark.parametrize(
    ("message", "kept"),
    [
        pytest.param(Message("m", ((1, 1),), True, None), True, id="waits, and its row is on offer"),
        pytest.param(Message("m", ((1, 1), (9, 1)), True, None), True, id="waits, and one of its rows is on offer"),
        pytest.param(Message("m", ((9, 1),), True, None), False, id="waits, but its row has moved on"),
        pytest.param(Message("m", ((1, 2),), True, None), False, id="waits, but was published again since"),
        pytest.param(Message("m", (), True, None), False, id="waits, but is not ours"),
        pytest.param(Message("m", ((1, 1),), False, "alive"), True, id="fetched by a live worker"),
        pytest.param(Message("m", ((9, 1),), False, "alive"), False, id="fetched, but its row has moved on"),
        pytest.param(Message("m", ((1, 1),), False, "dead"), False, id="fetched by a dead worker"),
        pytest.param(Message("m", ((1, 1),), False, None), False, id="orphan: neither waits nor fetched"),
        pytest.param(Message("m", ((1, 1),), True, "dead"), True, id="given back by a worker that died: waits"),
    ],
)
def test_a_message_is_kept_while_someone_can_run_it_and_it_means_something(message: Message, kept: bool) -> None:
    assert sort([message], MEANT, LIVE) == (([message], []) if kept else ([], [message]))


def test_order_is_kept() -> None:
    messages = [Message(str(n), ((1 + n % 3, 1),), True, None) for n in range(9)]
    kept, dropped = sort(messages, MEANT, LIVE)
    assert [m.id for m in kept] == ["0", "1", "3", "4", "6", "7"]
    assert [m.id for m in dropped] == ["2", "5", "8"]
