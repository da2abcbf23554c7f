"""Conditions: what each says, and that its time moves only when its status does."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts, Problem, compose, timestamp
from postfleet_operator.reasons import ConditionType, Reason
from postfleet_operator.scaling.decide import decide
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.values import Decision
from unit.operator.building import counted, healthy, lost, sample, spec


def decision(backlog: int = 0, replicas: int = 0, **fields: Any) -> Decision:
    return decide(sample(healthy(backlog), replicas), spec(**fields), State(), 0.0)


FACTS = Facts(3, spec(), Workload(True, 2, 2, 2), healthy(), decision())


def one(condition_type: str, facts: Facts) -> tuple[str, str]:
    [found] = [condition for condition in compose(facts, [], 0.0) if condition["type"] == condition_type]
    return found["status"], found["reason"]


@pytest.mark.parametrize(
    ("workload", "ready", "progressing"),
    [
        pytest.param(Workload(), ("False", "DeploymentMissing"), ("False", "Settled"), id="no Deployment"),
        pytest.param(Workload(True, 0, 0, 0), ("True", "ScaledToZero"), ("False", "Settled"), id="asleep"),
        pytest.param(Workload(True, 2, 0, 0), ("False", "NoWorkerReady"), ("True", "ScalingUp"), id="waking"),
        pytest.param(Workload(True, 2, 1, 2), ("True", "WorkersReady"), ("True", "WorkersStarting"), id="starting"),
        pytest.param(Workload(True, 2, 2, 2), ("True", "WorkersReady"), ("False", "Settled"), id="settled"),
        pytest.param(Workload(True, 2, 3, 3), ("True", "WorkersReady"), ("True", "ScalingDown"), id="shrinking"),
        pytest.param(Workload(True, 0, 1, 1), ("True", "ScaledToZero"), ("True", "ScalingDown"), id="falling asleep"),
    ],
)
def test_ready_and_progressing_tell_of_the_workers(
    workload: Workload, ready: tuple[str, str], progressing: tuple[str, str]
) -> None:
    facts = replace(FACTS, workload=workload)
    assert (one("Ready", facts), one("Progressing", facts)) == (ready, progressing)


@pytest.mark.parametrize(
    ("fields", "active", "paused"),
    [
        pytest.param({}, ("True", "Auto"), ("False", "NotPaused"), id="auto"),
        pytest.param({"mode": "Manual"}, ("False", "Manual"), ("False", "NotPaused"), id="manual"),
        pytest.param({"paused": True}, ("False", "Paused"), ("True", "Paused"), id="paused"),
        pytest.param(
            {"paused": True, "mode": "Manual"}, ("False", "Paused"), ("True", "Paused"), id="paused and manual"
        ),
    ],
)
def test_scaling_active_and_paused_tell_of_the_spec(
    fields: dict[str, Any], active: tuple[str, str], paused: tuple[str, str]
) -> None:
    facts = replace(FACTS, spec=spec(**fields))
    assert (one("ScalingActive", facts), one("Paused", facts)) == (active, paused)


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        pytest.param(decision(500, 1), ("False", "WithinBounds"), id="free"),
        pytest.param(decision(50_000), ("True", "MaxReplicas"), id="at the top"),
        pytest.param(decision(0, 2, autoscaling={"minReplicas": 2}), ("True", "MinReplicas"), id="at the bottom"),
    ],
)
def test_scaling_limited_tells_of_the_bounds(made: Decision, expected: tuple[str, str]) -> None:
    assert one("ScalingLimited", replace(FACTS, decision=made)) == expected


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        (healthy(), ("True", "FreshRecord")),
        (counted(), ("False", "CountedInPostgreSQL")),
        (lost(), ("False", "NoSignal")),
    ],
)
def test_signal_healthy_tells_of_the_source(signal: Any, expected: tuple[str, str]) -> None:
    assert one("SignalHealthy", replace(FACTS, signal=signal)) == expected


def test_a_problem_makes_the_pool_unready_and_stops_scaling() -> None:
    facts = replace(FACTS, problem=Problem(Reason.NAME_TAKEN, "a Deployment email is not ours"))
    assert one("Ready", facts) == ("False", "NameTaken")
    assert one("ScalingActive", facts) == ("False", "NameTaken")


def test_a_broken_spec_says_so_and_leaves_the_rest_as_it_was() -> None:
    before = compose(FACTS, [], 0.0)
    problem = Problem(Reason.INVALID_SPEC, "JobPool email: spec.queues: is missing")
    after = {condition["type"]: condition for condition in compose(Facts(4, problem=problem), before, 50.0)}
    assert (after["Ready"]["reason"], after["Ready"]["observedGeneration"]) == ("InvalidSpec", 4)
    assert after["SignalHealthy"] == next(condition for condition in before if condition["type"] == "SignalHealthy")


def test_the_time_moves_only_with_the_status() -> None:
    first = compose(replace(FACTS, workload=Workload(True, 2, 1, 1)), [], 0.0)
    second = compose(replace(FACTS, workload=Workload(True, 2, 2, 2)), first, 60.0)
    times = {condition["type"]: condition["lastTransitionTime"] for condition in second}
    assert times["Progressing"] == "1970-01-01T00:01:00Z"
    assert times["Ready"] == times["SignalHealthy"] == "1970-01-01T00:00:00Z"


def test_composing_again_changes_nothing() -> None:
    first = compose(FACTS, [], 0.0)
    assert compose(FACTS, first, 60.0) == first


def test_every_condition_comes_in_order_with_its_generation() -> None:
    conditions = compose(FACTS, [], 0.0)
    assert [condition["type"] for condition in conditions] == list(ConditionType)
    assert {condition["observedGeneration"] for condition in conditions} == {3}


def test_times_are_written_as_the_api_writes_them() -> None:
    assert timestamp(1_770_000_000.9) == "2026-02-02T02:40:00Z"
