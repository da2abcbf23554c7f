"""The status: what people see, and when it is worth a write."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts
from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling.decide import decide
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Signal
from postfleet_operator.spec import JobPool
from postfleet_operator.status import compose, recent, worth_writing
from unit.operator.building import healthy, pool, sample


def look(of: JobPool, signal: Signal, replicas: int, now: float) -> dict[str, Any]:
    seen = sample(signal, replicas)
    decision = decide(seen, of.spec, State(), now)
    facts = Facts(1, of.spec, Workload(True, replicas, replicas, replicas), signal, decision)
    return compose(of, of.status, facts, now)


def condition(kind: str, status: str = "True", message: str = "a") -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "x", "message": message, "observedGeneration": 1}


def test_it_shows_workers_backlog_and_the_decision() -> None:
    status = look(pool(), healthy(1200, throttled=3, oldest_seconds=4.4), 2, 100.0)
    assert (status["replicas"], status["readyReplicas"], status["desiredReplicas"]) == (2, 2, 3)
    assert (status["backlog"]["total"], status["backlog"]["throttled"], status["backlog"]["oldestSeconds"]) == (
        1200,
        3,
        4,
    )
    assert status["bottleneck"] == "Workers"
    assert status["selector"] == "postfleet.io/pool=email,postfleet.io/node=shared"
    assert status["lastDecision"] | {"inputs": {}} == {
        "time": "1970-01-01T00:01:40Z",
        "from": 2,
        "to": 3,
        "reason": "Backlog",
        "message": "2 -> 3: 1,200 jobs / 500 per worker = 3 (3 more wait for a limit)",
        "inputs": {},
        "clamps": [],
    }


def test_clamps_and_until_when_they_hold_are_shown() -> None:
    shown = look(pool(), healthy(0), 2, 100.0)["lastDecision"]
    assert shown["clamps"] == [
        {"name": "Cooldown", "from": 0, "to": 1, "why": "idle for 0 of cooldownSeconds 60"},
    ]
    assert shown["blockedUntil"] == "1970-01-01T00:02:40Z"


def test_the_decision_stays_until_number_or_reason_change() -> None:
    first = look(pool(), healthy(1200), 2, 100.0)
    again = replace(pool(), status=first)
    assert look(again, healthy(1300), 3, 102.0)["lastDecision"] == first["lastDecision"]
    assert look(again, healthy(1800), 3, 104.0)["lastDecision"]["to"] == 4
    assert look(again, healthy(0), 1, 104.0)["lastDecision"]["reason"] == "Cooldown"


def test_what_is_not_known_stays_as_it_was() -> None:
    first = look(pool(), healthy(1200), 2, 100.0)
    blind = compose(pool(), first, Facts(1, pool().spec), 200.0)
    assert {key: blind[key] for key in ("replicas", "backlog", "lastDecision")} == {
        key: first[key] for key in ("replicas", "backlog", "lastDecision")
    }


@pytest.mark.parametrize(
    ("change", "seconds", "worth"),
    [
        pytest.param({}, 100.0, False, id="nothing changed"),
        pytest.param({"backlog": {"total": 2}}, 1.0, False, id="only numbers"),
        pytest.param({"backlog": {"total": 900}}, 4.0, False, id="numbers that moved far"),
        pytest.param({"backlog": {"total": 900}}, 5.0, True, id="numbers that moved far, after a while"),
        pytest.param({"backlog": {"total": 110}}, 29.0, False, id="numbers that moved a little"),
        pytest.param({"backlog": {"total": 110}}, 30.0, True, id="numbers that moved a little, after a long while"),
        pytest.param({"permittedPerSecond": "30"}, 5.0, True, id="a number that was not there"),
        pytest.param({"bottleneck": "Throttle"}, 4.0, False, id="a verdict"),
        pytest.param({"bottleneck": "Throttle"}, 5.0, True, id="a verdict, after a while"),
        pytest.param({"desiredReplicas": 2}, 0.0, True, id="another number of workers"),
        pytest.param({"conditions": [condition("Ready", "False")]}, 0.0, True, id="a condition"),
        pytest.param({"conditions": [condition("Ready", message="b")]}, 29.0, False, id="the words of a condition"),
        pytest.param({"recentDecisions": [{"from": 1, "to": 2}]}, 0.0, True, id="a change"),
        pytest.param({"recentDecisions": [{"from": 2, "to": 2}]}, 29.0, False, id="a change that a rule held back"),
    ],
)
def test_writes_are_few(change: dict[str, Any], seconds: float, worth: bool) -> None:
    written = {"backlog": {"total": 100}, "desiredReplicas": 1, "conditions": [condition("Ready")]}
    assert worth_writing(written, {**written, **change}, seconds) is worth


def test_the_limits_that_hold_most_are_named() -> None:
    holding = {f"tenant {number} per_day": number for number in range(1, 8)}
    shown = look(pool(), healthy(0, throttled=28, throttled_by=holding), 0, 100.0)["backlog"]["throttledBy"]
    assert shown[0] == {"limit": "tenant 7 per_day", "jobs": 7}
    assert [entry["jobs"] for entry in shown] == [7, 6, 5, 4, 3]


def test_what_is_only_recommended_is_told_once() -> None:
    pools = pool(mode="Recommend")
    first = look(pools, healthy(1200), 2, 100.0)
    again = look(replace(pools, status=first), healthy(1201), 2, 102.0)
    assert (again["recentDecisions"], again["lastDecision"]) == (first["recentDecisions"], first["lastDecision"])
    later = look(replace(pools, status=again), healthy(1900), 2, 104.0)
    assert [entry["to"] for entry in later["recentDecisions"]] == [4, 3]


def test_rules_that_take_turns_do_not_fill_the_history() -> None:
    held = replace(decide(sample(healthy(0), 2), pool().spec, State(), 0.0), after=2, recommended=0)
    ring: list[Any] = []
    for reason in [DecisionReason.COOLDOWN, DecisionReason.RUNNING_JOBS] * 20:
        ring = recent(ring, replace(held, reason=reason))
    assert [entry["reason"] for entry in ring] == ["RunningJobs", "Cooldown"]
    ring = recent(ring, replace(held, after=1))
    assert len(recent(ring, replace(held, before=2, reason=DecisionReason.COOLDOWN))) == 4


def test_the_history_is_bounded() -> None:
    ring: list[Any] = []
    for number in range(50):
        ring = recent(ring, replace(decide(sample(healthy(0), 2), pool().spec, State(), 0.0), after=number + 3))
    assert [entry["to"] for entry in ring] == list(range(52, 32, -1))


def test_hundreds_of_pools_whose_numbers_move_at_every_look_cost_few_writes() -> None:
    chance, given = random.Random(7), [pool(f"pool-{number}") for number in range(20)]
    status: list[dict[str, Any]] = [{} for _ in given]
    written, at, writes = [dict[str, Any]() for _ in given], [0.0] * len(given), 0
    for tick in range(150):
        now = 2.0 * tick
        for number, each in enumerate(given):
            signal = healthy(chance.randint(900, 990), oldest_seconds=chance.random())
            status[number] = look(replace(each, status=written[number]), signal, 2, now)
            if worth_writing(written[number], status[number], now - at[number]):
                written[number], at[number], writes = status[number], now, writes + 1
    assert writes <= 11 * len(given)  # one in 30 s each
