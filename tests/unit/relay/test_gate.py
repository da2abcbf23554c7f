"""What may not run now: pauses, holds and limits, as read from the rules."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay import gate
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.gate import Node, Rules, Tenant
from postfleet_workers.throttling.limits import Limit, campaign_limits, node_limits, tenant_limits

SESSIONS = Limit("sessions:n1", "node n1 maxConnections", 20, 1.0)
PER_MINUTE = node_limits("n1", {"limits": {"perMinute": 60}})
PER_DAY = tenant_limits("acme", None, 1000)


def node(*, paused: bool = False, tenants: frozenset[str] = frozenset()) -> Node:
    return Node(PER_MINUTE, SESSIONS, tenants, paused)


@pytest.mark.parametrize(
    ("rules", "key", "reason"),
    [
        pytest.param(Rules(), ("acme", "", ""), None, id="no rules, no route"),
        pytest.param(Rules(nodes={"n1": node()}), ("acme", "", "n1"), None, id="an open node"),
        pytest.param(Rules(held_queues=frozenset({"bulk"})), ("acme", "", ""), "queue bulk paused", id="queue"),
        pytest.param(Rules(held_queues=frozenset({"other"})), ("acme", "", ""), None, id="another queue"),
        pytest.param(Rules({"acme": Tenant(paused=True)}), ("acme", "", ""), "tenant acme paused", id="tenant"),
        pytest.param(Rules({"other": Tenant(paused=True)}), ("acme", "", ""), None, id="another tenant"),
        pytest.param(
            Rules(held_batches=frozenset({"campaign:7"})),
            ("acme", "campaign:7", ""),
            "campaign 7 paused",
            id="a campaign",
        ),
        pytest.param(Rules(held_batches=frozenset({""})), ("acme", "", ""), None, id="no batch is no batch"),
        pytest.param(Rules(), ("acme", "", "n1"), "node n1 unknown", id="a node that is not mirrored yet"),
        pytest.param(Rules(nodes={"n1": node(paused=True)}), ("acme", "", "n1"), "node n1 paused", id="node"),
        pytest.param(
            Rules({"acme": Tenant(invalid="weight 0")}),
            ("acme", "", ""),
            "tenant acme has an invalid row",
            id="tenant's row",
        ),
        pytest.param(
            Rules(nodes={"n1": gate.node("n1", {"limits": {"perMinute": 0}}, paused=False)}),
            ("acme", "", "n1"),
            "node n1 has an invalid spec",
            id="node's spec",
        ),
        pytest.param(
            Rules(nodes={"n1": node(tenants=frozenset({"other"}))}),
            ("acme", "", "n1"),
            "node n1 not open to tenant acme",
            id="a node for others",
        ),
        pytest.param(
            Rules(nodes={"n1": node(tenants=frozenset({"acme"}))}), ("acme", "", "n1"), None, id="a node for this one"
        ),
        pytest.param(
            Rules({"acme": Tenant(paused=True)}, {"n1": node(paused=True)}, held_queues=frozenset({"bulk"})),
            ("acme", "", "n1"),
            "queue bulk paused",
            id="the widest pause is named",
        ),
    ],
)
def test_a_group_is_closed_for_a_reason_that_a_person_understands(rules: Rules, key: Key, reason: str | None) -> None:
    assert rules.closed("bulk", key) == reason


@pytest.mark.parametrize(
    "spec",
    [
        pytest.param(None, id="nothing"),
        pytest.param([], id="a list"),
        pytest.param("perMinute: 5", id="text"),
        pytest.param({"limits": [1]}, id="a list of limits"),
        pytest.param({"limits": {"perMinute": 0}}, id="none a minute"),
        pytest.param({"limits": {"perDay": -5}}, id="less than none a day"),
        pytest.param({"limits": {"perHour": "many"}}, id="text for a number"),
        pytest.param({"limits": {"perHour": [5]}}, id="a list for a number"),
        pytest.param({"limits": {"maxConnections": 0}}, id="no connection"),
        pytest.param({"limits": {"maxConnections": "x"}}, id="text for connections"),
        pytest.param({"limits": {"sites": [{"name": "gmail", "perMinute": 0}]}}, id="none a minute at a site"),
        pytest.param({"limits": {"sites": [{"perMinute": 5}]}}, id="a site without a name"),
        pytest.param({"limits": {"sites": "gmail"}}, id="a name for a list of sites"),
        pytest.param({"warmup": {"startDate": "soon"}}, id="a day that is none"),
        pytest.param({"tenants": "acme"}, id="a name for a list of names"),
        pytest.param({"tenants": [{}]}, id="a list of something else"),
    ],
)
def test_a_node_whose_spec_makes_no_sense_is_closed_and_says_why(spec: object) -> None:
    found = gate.node("n1", spec, paused=False)
    assert found.invalid
    assert Rules(nodes={"n1": found}).invalid() == {"node n1": found.invalid}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["limits", "tenants", "perMinute", "maxConnections", "sites", "name", "smtp", "warmup", "startDate"]
            ),
            inner,
            max_size=4,
        )
    ),
)


@given(JSON)
def test_no_spec_can_stop_the_relay(spec: object) -> None:
    gate.node("n1", spec, paused=False)


@pytest.mark.parametrize("spec", [{}, {"limits": None, "tenants": None}, {"limits": {"perMinute": None}}])
def test_what_a_spec_leaves_out_is_unlimited(spec: object) -> None:
    found = gate.node("n1", spec, paused=False)
    assert (found.invalid, found.limits, found.sessions.count, found.tenants) == ("", (), 20, frozenset())


RULES = Rules({"acme": Tenant(3, PER_DAY)}, {"n1": node()})


@pytest.mark.parametrize(
    ("key", "limits"),
    [
        pytest.param(("acme", "", "n1"), (*PER_MINUTE, SESSIONS, *PER_DAY), id="mail: its node's and its tenant's"),
        pytest.param(("other", "", "n1"), (*PER_MINUTE, SESSIONS), id="mail of a tenant without a row"),
        pytest.param(("acme", "", ""), (), id="what is no mail has no limit"),
        pytest.param(("acme", "", "gone"), (), id="an unknown node is closed, not limited"),
    ],
)
def test_which_limits_count_a_group(key: Key, limits: tuple[Limit, ...]) -> None:
    assert RULES.limits(key) == limits


@pytest.mark.parametrize(("tenant", "weight"), [("acme", 3), ("unknown", 1)])
def test_a_tenants_weight(tenant: str, weight: int) -> None:
    assert RULES.weight(tenant) == weight


def test_a_dedicated_node_has_a_road_of_its_own_in_every_queue() -> None:
    dedicated = {"workers": {"placement": "Dedicated", "poolRef": {"name": "email"}}}
    rules = Rules(
        nodes={name: gate.node(name, spec, paused=False) for name, spec in {"own.1": dedicated, "n1": {}}.items()}
    )
    assert rules.roads("a.b") == ["a.b", "a.b.own.1"]
    assert {route: rules.road("a.b", route) for route in ("", "n1", "gone", "own.1")} == {
        "": "a.b", "n1": "a.b", "gone": "a.b", "own.1": "a.b.own.1"
    }  # fmt: skip
    assert rules.goes_by("a.b.own.1", "a.b", "own.1")
    assert not rules.goes_by("a.b", "a.b", "own.1")
    assert rules.dedicated() == {"own.1"}


@pytest.mark.parametrize(
    "workers",
    [
        pytest.param({"placement": "Shared", "poolRef": {"name": "email"}}, id="shared"),
        pytest.param({"placement": "Dedicated"}, id="no pool to copy"),
        pytest.param({"placement": "Dedicated", "poolRef": None}, id="none yet"),
        pytest.param(None, id="null"),
    ],
)
def test_any_other_node_goes_by_the_queue_itself(workers: object) -> None:
    assert Rules(nodes={"n1": gate.node("n1", {"workers": workers}, paused=False)}).roads("q") == ["q"]


def test_workers_that_are_no_mapping_make_no_sense_and_close_the_node() -> None:
    assert gate.node("n1", {"workers": [1]}, paused=False).invalid


AT_GMAIL = {"limits": {"perHour": 900, "sites": [{"name": "gmail", "perMinute": 60, "maxConnections": 5}]}}
SUSPENDED = {"site": "gmail", "action": "suspend", "value": None, "rule": "gmail-unusual-rate", "seconds": 60}
SLOWED = {"site": "gmail", "action": "per_minute", "value": 1, "rule": "r", "seconds": 60}
FEWER = {"site": "gmail", "action": "connections", "value": 1, "rule": "r", "seconds": 60}


def at_gmail(*slowdowns: dict[str, object]) -> Rules:
    campaigns = {"campaign:7": campaign_limits(7, 30)}
    return Rules(nodes={"n1": gate.node("n1", AT_GMAIL, paused=False, slowdowns=slowdowns)}, campaigns=campaigns)


def named(rules: Rules, key: Key) -> list[tuple[str, int]]:
    return [(limit.name, limit.count) for limit in rules.limits(key)]


def test_mail_to_a_named_site_counts_against_the_node_and_the_site() -> None:
    node = [("node n1 per_hour", 900), ("node n1 maxConnections", 20)]
    site = [("node n1 at gmail per_minute", 60), ("node n1 at gmail maxConnections", 5)]
    assert named(at_gmail(), ("acme", "", "n1/gmail")) == node + site
    assert named(at_gmail(), ("acme", "", "n1")) == node
    assert named(at_gmail(), ("acme", "campaign:7", "n1/gone")) == [*node, ("campaign 7 per_minute", 30)]


def test_what_a_sites_replies_slowed_down_is_held_there_and_nowhere_else() -> None:
    slow = at_gmail(SLOWED, FEWER)
    assert named(slow, ("acme", "", "n1/gmail"))[2:] == [
        ("node n1 at gmail per_minute", 60),
        ("node n1 at gmail slowed per_minute", 1),
        ("node n1 at gmail maxConnections", 1),
    ]
    closed = at_gmail(SUSPENDED)
    assert closed.closed("bulk", ("acme", "", "n1/gmail")) == "node n1 at gmail suspended by gmail-unusual-rate"
    assert closed.closed("bulk", ("acme", "", "n1")) is None


def test_a_warmups_cap_is_a_limit_of_the_node() -> None:
    warmup = {"enabled": True, "startDate": "2026-03-01", "days": [20, 28]}
    found = gate.node("n1", {"warmup": warmup}, paused=False, today=date(2026, 3, 2))
    assert [(limit.name, limit.count) for limit in found.limits] == [("node n1 warmup", 28)]


def test_the_mail_of_a_dedicated_nodes_site_takes_the_nodes_road() -> None:
    dedicated = {**AT_GMAIL, "workers": {"placement": "Dedicated", "poolRef": {"name": "email"}}}
    rules = Rules(nodes={"own": gate.node("own", dedicated, paused=False)})
    assert rules.road("bulk", "own/gmail") == "bulk.own"
    assert rules.goes_by("bulk.own", "bulk", "own/gmail")
