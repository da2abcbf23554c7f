"""Who may put how much into the pipe: fairness as properties over any set of groups."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay.allocate import Demand, Key, allocate

LIMITS = ("node", "tenant", "sessions")


def demand(
    tenant: str, due: int, *, batch: str = "", route: str = "", weight: int = 1, in_pipe: int = 0, bundle: int = 1,
    limits: tuple[str, ...] = (),
) -> Demand:  # fmt: skip
    return Demand((tenant, batch, route), weight, due, in_pipe, bundle, limits)


@st.composite
def demands(draw: st.DrawFn) -> list[Demand]:
    """Groups of up to five tenants; a tenant has one weight."""
    weights = draw(st.fixed_dictionaries({name: st.integers(1, 5) for name in "abcde"}))
    keys = draw(
        st.lists(st.tuples(st.sampled_from("abcde"), st.sampled_from("xyz"), st.sampled_from(["", "n"])), unique=True)
    )
    return [
        Demand(
            key,
            weights[key[0]],
            draw(st.integers(0, 60)),
            draw(st.integers(0, 60)),
            draw(st.integers(1, 10)),
            tuple(draw(st.sets(st.sampled_from(LIMITS)))),
        )
        for key in keys
    ]


SLOTS = st.integers(-2, 40)
PERMITTED = st.fixed_dictionaries({limit: st.integers(-5, 60) for limit in LIMITS})


def bundles_of(demands: Sequence[Demand], takes: Mapping[Key, int]) -> int:
    return sum(-(-takes.get(d.key, 0) // d.bundle) for d in demands)


@given(SLOTS, demands(), PERMITTED)
def test_never_more_bundles_than_slots(slots: int, asked: list[Demand], permitted: dict[str, int]) -> None:
    assert bundles_of(asked, allocate(slots, asked, permitted)) <= max(0, slots)


@given(SLOTS, demands(), PERMITTED)
def test_never_more_than_is_due_and_never_a_group_with_nothing(
    slots: int, asked: list[Demand], permitted: dict[str, int]
) -> None:
    takes = allocate(slots, asked, permitted)
    assert all(0 < takes[d.key] <= d.due for d in asked if d.key in takes)


@given(SLOTS, demands(), PERMITTED)
def test_never_more_than_a_limit_permits_to_all_that_share_it(
    slots: int, asked: list[Demand], permitted: dict[str, int]
) -> None:
    used: Counter[str] = Counter()
    for key, take in allocate(slots, asked, permitted).items():
        used.update({limit: take for d in asked if d.key == key for limit in d.limits})
    assert all(used[limit] <= max(0, permitted[limit]) for limit in LIMITS)


@given(SLOTS, demands(), PERMITTED)
def test_no_slot_stays_free_while_a_group_could_use_it(
    slots: int, asked: list[Demand], permitted: dict[str, int]
) -> None:
    takes = allocate(slots, asked, permitted)
    rest = dict(permitted)
    for d in asked:
        for limit in d.limits:
            rest[limit] -= takes.get(d.key, 0)
    able = [d for d in asked if d.due > takes.get(d.key, 0) and all(rest[limit] > 0 for limit in d.limits)]
    # Each take fills a slot, even one that a limit cut short, and is at least one job.
    if sum(takes.values()) < slots:
        assert not able


@given(st.integers(5, 40), demands())
def test_no_tenant_with_demand_goes_away_empty_handed_when_the_pipe_is_empty(slots: int, asked: list[Demand]) -> None:
    fresh = [replace(d, in_pipe=0, limits=()) for d in asked]
    takes = allocate(slots, fresh, {})
    assert {d.key[0] for d in fresh if d.due} == {key[0] for key in takes}


@given(SLOTS, demands(), PERMITTED)
def test_a_blocked_tenant_takes_nothing_from_the_others(
    slots: int, asked: list[Demand], permitted: dict[str, int]
) -> None:
    others = [d for d in asked if d.key[0] != "a"]
    blocked = [replace(d, limits=("spent",)) if d.key[0] == "a" else d for d in asked]
    assert allocate(slots, blocked, {**permitted, "spent": 0}) == allocate(slots, others, permitted)


@given(
    st.integers(1, 200),
    st.lists(st.integers(1, 10), min_size=2, max_size=6),
    st.integers(1, 10),
)
def test_full_tenants_share_by_weight_to_within_one_bundle(slots: int, weights: list[int], bundle: int) -> None:
    asked = [demand(f"t{n}", 100_000, weight=weight, bundle=bundle) for n, weight in enumerate(weights)]
    takes = allocate(slots, asked, {})
    assert bundles_of(asked, takes) == slots
    shares = [takes.get(d.key, 0) / bundle / d.weight for d in asked]
    for one, own in zip(asked, shares, strict=True):
        # One bundle less would have put it below everyone else.
        assert own - 1 / one.weight <= min(shares) + 1e-9


def test_what_a_tenant_holds_already_counts_against_its_share() -> None:
    asked = [demand("busy", 100, in_pipe=6), demand("idle", 100)]
    assert allocate(8, asked, {}) == {("busy", "", ""): 1, ("idle", "", ""): 7}


def test_groups_of_one_tenant_share_what_it_gets() -> None:
    asked = [demand("t", 100, batch="campaign:1", in_pipe=4), demand("t", 100, batch="campaign:2"), demand("u", 100)]
    takes = allocate(12, asked, {})
    assert takes == {("t", "campaign:2", ""): 4, ("u", "", ""): 8}


def test_many_campaigns_do_not_make_a_tenant_bigger() -> None:
    asked = [*(demand("many", 100, batch=f"campaign:{n}") for n in range(9)), demand("one", 100)]
    takes = allocate(10, asked, {})
    assert sum(take for key, take in takes.items() if key[0] == "many") == takes["one", "", ""] == 5


def test_a_shared_limit_is_shared_fairly() -> None:
    asked = [demand(name, 100, route="n", bundle=5, limits=("node",)) for name in "abc"]
    assert allocate(100, asked, {"node": 30}) == {(name, "", "n"): 10 for name in "abc"}


def test_a_spent_route_leaves_the_tenants_other_routes_alone() -> None:
    asked = [demand("t", 100, route="spent", limits=("node",)), demand("t", 100, route="free")]
    assert allocate(4, asked, {"node": 0}) == {("t", "", "free"): 4}


def test_a_limit_that_nobody_asked_about_permits_nothing() -> None:
    assert allocate(4, [demand("t", 100, limits=("unknown",))], {}) == {}


@pytest.mark.parametrize(("slots", "taken"), [(1, 50), (2, 100), (3, 120)])
def test_a_slot_is_a_bundle_not_a_job(slots: int, taken: int) -> None:
    assert allocate(slots, [demand("t", 120, bundle=50)], {}) == {("t", "", ""): taken}


def test_a_campaign_of_many_routes_crowds_out_no_other_of_its_tenant() -> None:
    large = [demand("acme", 100, batch="campaign:1", route=f"n1/{site}") for site in range(9)]
    takes = allocate(20, [*large, demand("acme", 100, batch="campaign:2", route="n2")], {})
    assert takes["acme", "campaign:2", "n2"] == 10
