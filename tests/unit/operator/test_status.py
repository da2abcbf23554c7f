"""The status: what people see, and when it is worth a write."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts
from postfleet_operator.scaling.decide import decide
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Signal
from postfleet_operator.spec import JobPool
from postfleet_operator.status import compose, worth_writing
from unit.operator.building import healthy, pool, sample


def look(of: JobPool, signal: Signal, replicas: int, now: float) -> dict[str, Any]:
    seen = sample(signal, replicas)
    decision = decide(seen, of.spec, State(), now)
    facts = Facts(1, of.spec, Workload(True, replicas, replicas, replicas), signal, decision)
    return compose(of, facts, now)


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
    blind = compose(replace(pool(), status=first), Facts(1, pool().spec), 200.0)
    assert {key: blind[key] for key in ("replicas", "backlog", "lastDecision")} == {
        key: first[key] for key in ("replicas", "backlog", "lastDecision")
    }


@pytest.mark.parametrize(
    ("change", "seconds", "worth"),
    [
        pytest.param({}, 100.0, False, id="nothing changed"),
        pytest.param({"backlog": {"total": 2}}, 1.0, False, id="only numbers"),
        pytest.param({"backlog": {"total": 2}}, 5.0, True, id="numbers after a while"),
        pytest.param({"desiredReplicas": 2}, 0.0, True, id="another number of workers"),
        pytest.param({"conditions": []}, 0.0, True, id="a condition"),
    ],
)
def test_writes_are_few(change: dict[str, Any], seconds: float, worth: bool) -> None:
    written = {"backlog": {"total": 1}, "desiredReplicas": 1}
    assert worth_writing(written, {**written, **change}, seconds) is worth
