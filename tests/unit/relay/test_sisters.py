"""Which held mail goes to which other node of its campaign."""

from __future__ import annotations

import pytest

from postfleet_workers.relay import gate
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.gate import Rules, Tenant
from postfleet_workers.relay.sisters import Move, moves

GMAIL = {"limits": {"perMinute": 5, "sites": [{"name": "gmail", "perMinute": 1}]}}
BATCH = "campaign:7"


def nodes(**paused: bool) -> dict[str, gate.Node]:
    specs = {"n1": GMAIL, "n2": {}, "n3": GMAIL}
    return {name: gate.node(name, spec, paused=paused.get(name, False)) for name, spec in specs.items()}


def given(held: dict[str, int], rules: Rules, **room: int) -> list[tuple[str, str, int]]:
    by_key: dict[tuple[str, Key], int] = {("bulk", ("acme", BATCH, route)): jobs for route, jobs in held.items()}

    def left(key: Key) -> int:
        name, _, site = key[2].partition("/")
        return min(room.get(name, 0), room.get(site, 1000) if site else 1000)

    found = moves(by_key, {BATCH: ["n1", "n2", "n3"]}, rules, left)
    assert all(isinstance(move, Move) and move.queue == "bulk" for move in found)
    return [(move.key[2], move.route, move.jobs) for move in found]


def test_what_a_node_holds_goes_where_there_is_room_and_no_more_than_that() -> None:
    assert given({"n1": 100}, Rules(nodes=nodes()), n2=30, n3=20) == [("n1", "n2", 30), ("n1", "n3", 20)]
    assert given({"n1": 10}, Rules(nodes=nodes()), n2=30, n3=20) == [("n1", "n2", 10)]


def test_room_is_used_once() -> None:
    held = {"n1": 20, "n1/gmail": 20}
    assert given(held, Rules(nodes=nodes()), n2=30) == [("n1", "n2", 20), ("n1/gmail", "n2", 10)]


def test_a_sites_limit_at_the_other_node_bounds_its_mail_there_and_no_other() -> None:
    held = {"n1": 20, "n1/gmail": 20}
    assert given(held, Rules(nodes=nodes()), n3=30, gmail=25) == [("n1", "n3", 20), ("n1/gmail", "n3/gmail", 5)]
    held = {"n1/gmail": 20, "n1": 20}
    assert given(held, Rules(nodes=nodes()), n3=30, gmail=5) == [("n1/gmail", "n3/gmail", 5), ("n1", "n3", 20)]


def test_a_site_stays_in_the_route_where_it_limits_the_other_node() -> None:
    assert given({"n1/gmail": 5}, Rules(nodes=nodes()), n3=9) == [("n1/gmail", "n3/gmail", 5)]


def test_nothing_goes_to_a_node_that_sends_nothing_now() -> None:
    assert given({"n1": 5}, Rules(nodes=nodes(n2=True)), n2=9) == []
    assert given({"n1": 5}, Rules({"acme": Tenant(paused=True)}, nodes()), n2=9) == []


@pytest.mark.parametrize(
    ("reason", "held"),
    [
        pytest.param("node n1 per_minute", True, id="its node's rate"),
        pytest.param("node n1 at gmail per_minute", True, id="its node's at the site"),
        pytest.param("node n1 maxConnections", True, id="its node's sessions"),
        pytest.param("tenant acme per_minute", False, id="its tenant's"),
        pytest.param("campaign 7 paused", False, id="a pause of the campaign"),
        pytest.param("", False, id="nothing"),
    ],
)
def test_only_what_its_node_holds_is_given_away(reason: str, held: bool) -> None:
    assert Rules(nodes=nodes()).held_by_node(("acme", BATCH, "n1/gmail"), reason) is held


def test_what_a_paused_node_holds_is_given_away() -> None:
    assert Rules(nodes=nodes(n1=True)).held_by_node(("acme", BATCH, "n1"), "node n1 paused")
