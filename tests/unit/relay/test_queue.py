"""The bytes of a message: what is written is read back, and what is not ours is read as nothing."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay.queue import decode, encode

ITEMS = st.lists(st.tuples(st.integers(1, 2**63 - 1), st.integers(1, 2**31 - 1)), min_size=1, max_size=50)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["args", "x"]), inner, max_size=2),
)


@given(ITEMS, st.text(min_size=1), st.integers(0, 2**53))
def test_a_message_carries_its_pairs_and_nothing_else(items: list[tuple[int, int]], queue: str, now_ms: int) -> None:
    message_id, data = encode(queue, "email.send", items, now_ms)
    assert decode(data) == (tuple(items), now_ms)
    message = json.loads(data)
    assert (message["queue_name"], message["actor_name"], message["message_timestamp"]) == (queue, "email.send", now_ms)
    assert message["message_id"] == message["options"]["redis_message_id"] == message_id
    assert message["kwargs"] == {}


def test_every_message_has_an_id_of_its_own() -> None:
    assert len({encode("q", "a", [(1, 1)], 0)[0] for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "data",
    [
        pytest.param("", id="empty"),
        pytest.param("not json", id="no JSON"),
        pytest.param("[]", id="a list"),
        pytest.param("null", id="null"),
        pytest.param("{}", id="no args"),
        pytest.param('{"args": [], "message_timestamp": 0}', id="no first argument"),
        pytest.param('{"args": ["text"], "message_timestamp": 0}', id="text"),
        pytest.param('{"args": [7], "message_timestamp": 0}', id="a number"),
        pytest.param('{"args": [{"a": 1}], "message_timestamp": 0}', id="an object"),
        pytest.param('{"args": [[1, 2]], "message_timestamp": 0}', id="numbers, not pairs"),
        pytest.param('{"args": [[[1, 2, 3]]], "message_timestamp": 0}', id="triples"),
        pytest.param('{"args": [[[1, "x"]]], "message_timestamp": 0}', id="text for a number"),
        pytest.param('{"args": [[[1, Infinity]]], "message_timestamp": 0}', id="infinity"),
        pytest.param('{"args": [[[1, NaN]]], "message_timestamp": 0}', id="not a number"),
        pytest.param('{"args": [[[1, 1]]]}', id="no time"),
        pytest.param('{"args": [[[1, 1]]], "message_timestamp": []}', id="a list for a time"),
        pytest.param('{"args": [[[9223372036854775808, 1]]], "message_timestamp": 0}', id="an id beyond bigint"),
        pytest.param('{"args": [[[1, 2147483648]]], "message_timestamp": 0}', id="a publication beyond integer"),
    ],
)
def test_a_message_that_is_not_ours_offers_nothing(data: str) -> None:
    assert decode(data)[0] == ()


@given(JSON)
def test_no_foreign_message_can_stop_the_relay(value: object) -> None:
    for data in (
        json.dumps(value),
        json.dumps({"args": [value], "message_timestamp": 0}),
        json.dumps({"args": [[[1, 1]]], "message_timestamp": value}),
    ):
        assert all(0 <= job < 2**63 and 0 <= publication < 2**31 for job, publication in decode(data)[0])
