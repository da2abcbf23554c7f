"""Which node new mail goes to: shares by what each lets through."""

from __future__ import annotations

from collections import Counter
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.capacity import SLOTS, choices, known_sites, per_day, rounds
from postfleet_workers.mail.node import NodeSpec, parse_node

TODAY = date(2026, 3, 2)
WARMUP = {"enabled": True, "startDate": "2026-03-01", "days": [20, 28]}


def node(
    name: str = "n1", *, slowdowns: tuple[dict[str, Any], ...] = (), paused: bool = False, **given: Any
) -> NodeSpec:
    spec = {"smtp": {"host": "h"}, "identity": {"domain": "a.example"}, **given}
    return parse_node(name, spec, paused=paused, slowdowns=slowdowns)


def slow(action: str, value: int | None = None) -> dict[str, Any]:
    return {"site": "gmail", "action": action, "value": value, "rule": "r", "seconds": 60}


@pytest.mark.parametrize(
    ("given", "site", "capacity"),
    [
        pytest.param({"limits": {"maxConnections": 2}}, "", 172_800, id="its sessions, a mail a second each"),
        pytest.param({"limits": {"perHour": 100, "perDay": 5000}}, "", 2400, id="the tightest rate"),
        pytest.param({"limits": {"perDay": 5000}, "warmup": WARMUP}, "", 28, id="the warmup's cap"),
        pytest.param({"limits": {"sites": [{"name": "gmail", "perDay": 9}]}}, "gmail", 9, id="the site's own"),
        pytest.param({"limits": {"sites": [{"name": "gmail", "perDay": 9}]}}, "", 1_728_000, id="another site"),
        pytest.param({"slowdowns": (slow("per_minute", 1),)}, "gmail", 1440, id="slowed down there"),
        pytest.param({"slowdowns": (slow("suspend"),)}, "gmail", 0, id="suspended there"),
        pytest.param({"slowdowns": (slow("suspend"),)}, "", 1_728_000, id="suspended elsewhere"),
        pytest.param({"paused": True}, "", 0, id="paused"),
    ],
)
def test_a_nodes_capacity_is_the_tightest_of_its_limits(given: dict[str, Any], site: str, capacity: int) -> None:
    assert per_day(node(**given), site, TODAY) == capacity


def test_equal_nodes_take_turns() -> None:
    assert rounds({"a": 7, "b": 7})[:4] == ["a", "b", "a", "b"]


def test_without_any_capacity_mail_waits_at_all_of_them() -> None:
    assert Counter(rounds({"a": 0, "b": 0})) == {"a": SLOTS // 2, "b": SLOTS // 2}


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.integers(0, 10_000_000), min_size=1))
def test_each_has_its_share_of_the_turns_and_whoever_has_capacity_has_one(weights: dict[str, int]) -> None:
    found = Counter(rounds(weights))
    assert found.total() == SLOTS
    if total := sum(weights.values()):
        assert found.keys() == {name for name, weight in weights.items() if weight}
        assert all(abs(turns - SLOTS * weights[name] / total) < len(weights) + 1 for name, turns in found.items())


def test_a_suspended_node_gets_no_mail_for_that_site() -> None:
    nodes = [node("n1", slowdowns=(slow("suspend"),)), node("n2")]
    assert set(choices(nodes, "gmail", TODAY)) == {"n2"}
    assert set(choices(nodes, "", TODAY)) == {"n1", "n2"}


def test_sites_count_where_they_limit_one_of_the_nodes() -> None:
    nodes = [node(limits={"sites": [{"name": "gmail"}, {"name": "corp.example"}]}), node("n2")]
    assert known_sites(nodes) == {"gmail.com": "gmail", "googlemail.com": "gmail", "corp.example": "corp.example"}
    assert known_sites([node("n2")]) == {}
