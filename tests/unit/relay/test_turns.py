"""Fairness from tick to tick: more tenants, or campaigns, than the pipe has slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.relay.allocate import Demand, Key, allocate
from postfleet_workers.relay.turns import Turns


def demand(tenant: str, *, batch: str = "", weight: int = 1, due: int = 10_000, limits: tuple[str, ...] = ()) -> Demand:
    return Demand((tenant, batch, ""), weight, due, 0, 1, limits)


def ticks(
    count: int, slots: int, demands: Sequence[Demand], turns: Turns, permitted: Mapping[str, int] | None = None
) -> Counter[Key]:
    """What each group took in so many ticks when the pipe is empty again at each."""
    taken: Counter[Key] = Counter()
    for _ in range(count):
        taken.update(allocate(slots, demands, permitted or {}, turns))
    return taken


@given(st.integers(1, 12), st.integers(1, 40))
def test_many_tenants_take_turns_at_few_slots(slots: int, tenants: int) -> None:
    asked = [demand(f"tenant-{n}") for n in range(tenants)]
    taken = ticks(40, slots, asked, Turns())
    assert sum(taken.values()) == 40 * slots
    shares = [taken[d.key] for d in asked]
    assert max(shares) - min(shares) <= 1


def test_weights_hold_from_tick_to_tick() -> None:
    asked = [demand(f"tenant-{n}", weight=1 + n % 3) for n in range(30)]
    taken = ticks(300, 8, asked, Turns())
    shares = {weight: [taken[d.key] for d in asked if d.weight == weight] for weight in (1, 2, 3)}
    assert sum(shares[1]) == pytest.approx(2400 / 6, rel=0.05)
    assert sum(shares[2]) == pytest.approx(2400 / 3, rel=0.05)
    assert sum(shares[3]) == pytest.approx(2400 / 2, rel=0.05)


def test_many_campaigns_of_one_tenant_take_turns_too() -> None:
    asked = [demand("acme", batch=f"campaign:{n}") for n in range(20)]
    taken = ticks(50, 4, asked, Turns())
    assert {taken[d.key] for d in asked} == {10}


def test_who_comes_back_cannot_claim_the_past() -> None:
    turns = Turns()
    ticks(1000, 1, [demand("busy")], turns)
    taken = ticks(100, 1, [demand("busy"), demand("back")], turns)
    assert abs(taken["busy", "", ""] - taken["back", "", ""]) <= 1


def test_who_was_held_by_a_limit_cannot_claim_the_past_either() -> None:
    turns = Turns()
    held, free = demand("held", limits=("node",)), demand("free")
    assert ticks(1000, 1, [held, free], turns, {"node": 0}) == {free.key: 1000}
    taken = ticks(100, 1, [held, free], turns, {"node": 1})
    assert abs(taken[held.key] - taken[free.key]) <= 1


def test_leaving_for_a_moment_gains_nothing() -> None:
    turns = Turns()
    taken: Counter[Key] = Counter()
    for tick in range(200):
        present = [demand("steady"), *([demand("flighty")] if tick % 2 else [])]
        taken.update(ticks(1, 1, present, turns))
    assert taken["flighty", "", ""] <= taken["steady", "", ""]


def test_newcomers_at_every_tick_cannot_push_a_steady_tenant_out() -> None:
    turns = Turns()
    waiting = [demand("steady")]
    taken: Counter[Key] = Counter()
    for n in range(100):
        waiting = [d for d in waiting if d.due - taken[d.key] > 0] + [demand(f"new-{n}", due=1)]
        taken.update(ticks(1, 2, waiting, turns))
    assert taken["steady", "", ""] >= 90


def test_a_new_campaign_starts_at_the_level_of_its_tenants_others() -> None:
    turns = Turns()
    ticks(1000, 2, [demand("acme", batch="campaign:1"), demand("slow")], turns)
    asked = [demand("acme", batch="campaign:1"), demand("acme", batch="campaign:2"), demand("slow")]
    taken = ticks(200, 1, asked, turns)
    assert abs(taken["acme", "campaign:1", ""] - taken["acme", "campaign:2", ""]) <= 1
    assert taken["slow", "", ""] == pytest.approx(100, abs=1)


def test_what_is_remembered_does_not_grow_with_what_has_been() -> None:
    turns = Turns()
    for n in range(1000):
        ticks(1, 1, [demand("steady"), demand(f"once-{n}")], turns)
    assert len(turns._tenants._places) < 10
    assert len(turns._groups) == 2
