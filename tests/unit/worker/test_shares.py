"""Which queue a free thread serves next."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.settings import Settings
from postfleet_workers.worker.shares import Shares, parse_weights, reserved_threads

QUEUES = ["priority-high", "campaign-standard", "retry", "warmup"]
WEIGHTS = {"campaign-standard": 6, "retry": 2, "warmup": 2}
BULK = QUEUES[1:]


def picks(shares: Shares, waiting: list[str], count: int) -> Counter[str | None]:
    return Counter(shares.pick(waiting, reserved=False) for _ in range(count))


def test_the_first_queue_is_strict() -> None:
    assert picks(Shares(QUEUES, WEIGHTS), QUEUES, 1000) == {"priority-high": 1000}


def test_the_others_share_by_weight_to_within_one_percent() -> None:
    found = picks(Shares(QUEUES, WEIGHTS), BULK, 1000)
    assert found == {
        "campaign-standard": pytest.approx(600, rel=0.01),
        "retry": pytest.approx(200, rel=0.01),
        "warmup": pytest.approx(200, rel=0.01),
    }


def test_a_queue_without_a_weight_weighs_two() -> None:
    found = picks(Shares(["first", "a", "b"], {"a": 4}), ["a", "b"], 900)
    assert found == {"a": pytest.approx(600, rel=0.01), "b": pytest.approx(300, rel=0.01)}


def test_the_queues_of_a_dedicated_node_have_the_weights_of_the_pools() -> None:
    found = picks(
        Shares([f"{queue}.n.1" for queue in QUEUES], WEIGHTS, "n.1"), ["campaign-standard.n.1", "retry.n.1"], 800
    )
    assert found == {"campaign-standard.n.1": pytest.approx(600, rel=0.01), "retry.n.1": pytest.approx(200, rel=0.01)}


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(1, 300))
def test_no_queue_is_ever_more_than_one_turn_from_its_share(weights: list[int], count: int) -> None:
    names = [f"q{n}" for n in range(len(weights))]
    found = picks(Shares(["first", *names], dict(zip(names, weights, strict=True))), names, count)
    for name, weight in zip(names, weights, strict=True):
        behind = min(found[other] / w for other, w in zip(names, weights, strict=True))
        assert (found[name] - 1) / weight <= behind + 1e-9


@given(st.integers(0, 500))
def test_a_queue_that_was_idle_cannot_claim_the_past(idle: int) -> None:
    shares = Shares(QUEUES, WEIGHTS)
    picks(shares, ["campaign-standard"], idle)
    found = picks(shares, BULK, 100)
    assert found["campaign-standard"] == pytest.approx(60, abs=2)
    assert found["retry"] == pytest.approx(20, abs=2)


def test_while_one_waits_alone_it_gets_every_turn() -> None:
    assert picks(Shares(QUEUES, WEIGHTS), ["warmup"], 10) == {"warmup": 10}


@pytest.mark.parametrize(
    ("waiting", "picked"),
    [
        pytest.param(["priority-high"], "priority-high", id="serves the first queue"),
        pytest.param(QUEUES, "priority-high", id="whatever else waits"),
        pytest.param(BULK, None, id="and never another"),
        pytest.param([], None, id="nothing waits"),
    ],
)
def test_a_reserved_thread(waiting: list[str], picked: str | None) -> None:
    assert Shares(QUEUES, WEIGHTS).pick(waiting, reserved=True) == picked


def test_a_reserved_thread_that_finds_nothing_costs_the_others_no_turn() -> None:
    shares, untouched = Shares(QUEUES, WEIGHTS), Shares(QUEUES, WEIGHTS)
    for _ in range(50):
        shares.pick(BULK, reserved=True)
        assert shares.pick(BULK, reserved=False) == untouched.pick(BULK, reserved=False)


def test_nothing_waits() -> None:
    assert Shares(QUEUES, WEIGHTS).pick([], reserved=False) is None


@pytest.mark.parametrize(
    ("threads", "fraction", "queues", "reserved"),
    [
        pytest.param(64, 0.125, 4, 8, id="an eighth"),
        pytest.param(8, 0.125, 4, 1, id="an eighth of eight"),
        pytest.param(4, 0.125, 4, 1, id="at least one"),
        pytest.param(2, 0.5, 2, 1, id="half of two"),
        pytest.param(1, 0.125, 4, 0, id="never the only thread"),
        pytest.param(64, 0.125, 1, 0, id="none where there is only one queue"),
        pytest.param(64, 0.0, 4, 0, id="switched off"),
    ],
)
def test_how_many_threads_are_reserved(threads: int, fraction: float, queues: int, reserved: int) -> None:
    assert reserved_threads(threads, fraction, queues) == reserved


@given(st.integers(1, 256), st.floats(0, 0.5), st.integers(1, 16))
def test_some_thread_always_serves_every_queue(threads: int, fraction: float, queues: int) -> None:
    assert 0 <= reserved_threads(threads, fraction, queues) < threads


@pytest.mark.parametrize(
    ("value", "weights"),
    [
        pytest.param("", {}, id="empty"),
        pytest.param("a=6,b=2", {"a": 6, "b": 2}, id="two"),
        pytest.param(" a = 6 , , b=2, ", {"a": 6, "b": 2}, id="blanks and a stray comma"),
    ],
)
def test_weights_are_read(value: str, weights: dict[str, int]) -> None:
    assert parse_weights(value) == weights


@pytest.mark.parametrize("value", ["a", "a=", "a=0", "a=-1", "a=1.5", "a=x", "a=1,b"])
def test_weights_that_make_no_sense_are_refused(value: str) -> None:
    with pytest.raises(ValueError, match="name=weight"):
        parse_weights(value)


def test_the_default_weights_are_six_two_two() -> None:
    assert parse_weights(Settings.model_fields["queue_weights"].default) == WEIGHTS
