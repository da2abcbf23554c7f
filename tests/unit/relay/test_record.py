"""The relay's record of a queue: what counts as held, what as throttled, and how long the oldest has waited."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay import record
from postfleet_workers.relay.allocate import Key
from postfleet_workers.relay.census import Group, Pipeful
from postfleet_workers.relay.gate import Node, Rules, Site, Tenant
from postfleet_workers.relay.permits import Permits
from postfleet_workers.throttling.limits import Limit

MINUTE = Limit("minute", "node n1 per_minute", 100, 60.0)
SESSIONS = Limit("sessions", "node n1 maxConnections", 20, 1.0)
RULES = Rules(nodes={"n1": Node((MINUTE,), SESSIONS, frozenset(), paused=False)})
RATES = {"minute": 100 / 60, "sessions": 400.0}
PLENTY = Permits({}, {"minute": 1000, "sessions": 1000}, RATES)


def group(tenant: str = "acme", due: int = 0, *, route: str = "n1", published: int = 0, oldest: float = 0.0) -> Group:
    return Group((tenant, "", route), due, published, oldest, "email.send")


def compose(*groups: Group, permits: Permits = PLENTY, rules: Rules = RULES, **given: Any) -> dict[str, Any]:
    values: dict[str, Any] = {
        "published_now": {}, "pipe": {}, "messages": 0, "waiting": (0, None), "arrivals_per_second": 0.0, "at": 1.0,
        "poll_seconds": 0.5,
    } | given  # fmt: skip
    standings = record.stand("bulk", groups, values["published_now"], rules, permits)
    return record.compose(standings=standings, permits=permits, rules=rules, **values)


def test_an_idle_queue_says_so() -> None:
    assert compose(at=12.5) == {
        "at": 12.5, "poll_seconds": 0.5, "held": 0, "throttled": 0, "throttled_by": {}, "scheduled": 0,
        "next_run_at": None, "oldest_seconds": 0.0, "running": 0, "running_bundles": 0, "on_offer": 0,
        "mean_bundle_size": 1.0, "arrivals_per_second": 0.0, "permitted": {},
    }  # fmt: skip


def test_what_waits_only_for_a_slot_is_held() -> None:
    found = compose(group(due=30, oldest=4.0), published_now={("acme", "", "n1"): 10})
    assert (found["held"], found["throttled"], found["oldest_seconds"]) == (20, 0, 4.0)


def test_what_a_limit_keeps_back_is_throttled_and_the_limit_is_named() -> None:
    found = compose(group(due=500, oldest=90.0), permits=Permits({}, {"minute": 100, "sessions": 1200}, RATES))
    assert (found["held"], found["throttled"]) == (100, 400)
    assert found["throttled_by"] == {"node n1 per_minute": 400}
    assert found["oldest_seconds"] == 0.0, "it waits for its limit, and a worker would not help"


def test_what_this_tick_published_has_used_up_its_share_of_a_limit() -> None:
    found = compose(
        group(due=500),
        permits=Permits({}, {"minute": 100, "sessions": 1200}, RATES),
        published_now={("acme", "", "n1"): 40},
    )
    assert (found["held"], found["throttled"]) == (60, 400)


def test_a_limit_is_shared_by_every_group_that_counts_against_it() -> None:
    found = compose(group("a", 80), group("b", 80), permits=Permits({}, {"minute": 100, "sessions": 1200}, RATES))
    assert (found["held"], found["throttled"]) == (100, 60)


@pytest.mark.parametrize(
    ("rules", "reason"),
    [
        pytest.param(Rules({"acme": Tenant(paused=True)}, RULES.nodes), "tenant acme paused", id="tenant"),
        pytest.param(Rules(held_queues=frozenset({"bulk"})), "queue bulk paused", id="queue"),
        pytest.param(Rules(), "node n1 unknown", id="node"),
    ],
)
def test_what_is_closed_is_throttled_and_never_old(rules: Rules, reason: str) -> None:
    found = compose(group(due=7, oldest=3600.0), rules=rules, permits=Permits({}, {}))
    assert (found["held"], found["throttled_by"], found["oldest_seconds"]) == (0, {reason: 7}, 0.0)


def test_a_closed_group_without_due_rows_is_no_reason() -> None:
    assert compose(group(published=3), rules=Rules(), permits=Permits({}, {}))["throttled_by"] == {}


def test_a_closed_tenant_does_not_hide_how_long_another_waits() -> None:
    rules = Rules({"paused": Tenant(paused=True)}, RULES.nodes)
    found = compose(group("paused", 5, oldest=900.0), group("acme", 5, oldest=2.5), rules=rules)
    assert (found["oldest_seconds"], found["held"], found["throttled"]) == (2.5, 5, 5)


@pytest.mark.parametrize(
    ("published", "now", "running", "messages", "mean"),
    [
        pytest.param(0, 0, 0, 0, 1.0, id="nothing there"),
        pytest.param(80, 0, 20, 10, 10.0, id="on offer and running, per message"),
        pytest.param(80, 20, 0, 10, 10.0, id="with what was published just now"),
        pytest.param(0, 0, 1, 4, 1.0, id="never below one"),
    ],
)
def test_the_mean_size_of_a_bundle(published: int, now: int, running: int, messages: int, mean: float) -> None:
    found = compose(
        group(due=now, published=published),
        published_now={("acme", "", "n1"): now},
        pipe={("acme", "", "n1"): Pipeful(running=running, bundles=1)},
        messages=messages,
    )
    assert found["mean_bundle_size"] == mean


def test_what_waits_for_its_time_is_said_apart() -> None:
    found = compose(waiting=(40, 1234.5))
    assert (found["scheduled"], found["next_run_at"], found["held"]) == (40, 1234.5, 0)


GROUPS = st.lists(
    st.builds(group, st.sampled_from("abc"), st.integers(0, 300), route=st.sampled_from(["", "n1", "gone"])),
    unique_by=lambda g: g.key,
)


@given(GROUPS, st.integers(0, 500), st.integers(0, 500), st.data())
def test_every_due_job_is_published_held_or_throttled_and_none_twice(
    groups: list[Group], minute: int, sessions: int, data: st.DataObject
) -> None:
    now: dict[Key, int] = {}
    rest = min(minute, sessions)
    for one in groups:
        if RULES.closed("bulk", one.key) is None:
            most = min(one.due, rest) if one.key[2] else one.due
            now[one.key] = data.draw(st.integers(0, most))
            rest -= now[one.key] if one.key[2] else 0
    found = compose(*groups, permits=Permits({}, {"minute": minute, "sessions": sessions}, RATES), published_now=now)
    assert found["held"] + found["throttled"] + sum(now.values()) == sum(one.due for one in groups)
    assert found["throttled"] == sum(found["throttled_by"].values())
    limited = sum(one.due for one in groups if one.key[2] == "n1")
    assert found["held"] + sum(now.values()) <= sum(one.due for one in groups if not one.key[2]) + min(
        limited, minute, sessions
    )


@pytest.mark.parametrize(
    ("groups", "rules", "permitted"),
    [
        pytest.param([], RULES, {}, id="no work is not limited, and limits nothing"),
        pytest.param([group(due=5)], RULES, {"node n1 per_minute": 1.6667}, id="the slowest limit"),
        pytest.param([group("a", 5), group("b", 5)], RULES, {"node n1 per_minute": 1.6667}, id="shared, once"),
        pytest.param([group("a", 5), group("b", 5, route="")], RULES, None, id="some work has no limit"),
        pytest.param(
            [group("a", 5), group("b", 0, route="")], RULES, {"node n1 per_minute": 1.6667}, id="none is there"
        ),
        pytest.param([group(due=5)], Rules({"acme": Tenant(paused=True)}, RULES.nodes), {}, id="paused"),
    ],
)
def test_what_limits_let_through_is_told_by_the_slowest_of_each_group(
    groups: list[Group], rules: Rules, permitted: dict[str, float] | None
) -> None:
    assert compose(*groups, rules=rules)["permitted"] == permitted


@pytest.mark.parametrize(
    ("sites", "permitted"),
    [
        pytest.param(["gmail"], {"at gmail": 1.0}, id="one site, less than the node"),
        pytest.param(["gmail", "yahoo"], {"node n1 per_minute": 1.6667}, id="sites together, no more than the node"),
    ],
)
def test_what_the_sites_of_a_node_let_through_is_bounded_by_the_node(
    sites: list[str], permitted: dict[str, float]
) -> None:
    limits = {name: Limit(f"at {name}", f"at {name}", 60, 60.0) for name in ("gmail", "yahoo")}
    node = replace(RULES.nodes["n1"], sites={name: Site((limit,)) for name, limit in limits.items()})
    rates = RATES | {limit.key: 1.0 for limit in limits.values()}
    permits = Permits({}, PLENTY.plan | dict.fromkeys((limit.key for limit in limits.values()), 60), rates)
    found = compose(
        *(group(due=5, route=f"n1/{name}") for name in sites), rules=Rules(nodes={"n1": node}), permits=permits
    )
    assert found["permitted"] == permitted


def test_work_that_was_all_put_on_offer_is_limited_too() -> None:
    found = compose(group(due=5), published_now={("acme", "", "n1"): 5})
    assert found["permitted"] == {"node n1 per_minute": 1.6667}


@pytest.mark.parametrize(
    ("one", "permits", "rules", "balance"),
    [
        pytest.param(group(due=5), PLENTY, RULES, 5, id="free"),
        pytest.param(group(due=5), Permits({}, {"minute": 3, "sessions": 99}, RATES), RULES, None, id="limited"),
        pytest.param(group(due=5), PLENTY, Rules({"acme": Tenant(paused=True)}, RULES.nodes), None, id="paused"),
        pytest.param(replace(group(due=5), more=True), PLENTY, RULES, None, id="not counted out"),
    ],
)
def test_the_balance_of_arrivals_knows_only_what_was_counted_and_is_free(
    one: Group, permits: Permits, rules: Rules, balance: int | None
) -> None:
    [standing] = record.stand("bulk", [one], {}, rules, permits)
    assert standing.balance == balance
