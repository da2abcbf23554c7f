"""Each rule of the scaling decision, alone: what it lets through and what it changes."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling import clamps
from postfleet_operator.scaling.clamps import Look
from postfleet_operator.scaling.values import Clamp, Sample, State
from unit.operator.building import counted, healthy, lost, sample, spec

NOW = 1000.0


def look(seen: Sample, autoscaling: dict[str, Any] | None = None, state: State | None = None, **fields: Any) -> Look:
    return Look(seen, spec(autoscaling=autoscaling, **fields), state or State(), NOW)


def after(clamp: Clamp | None) -> int | None:
    return None if clamp is None else clamp.after


@pytest.mark.parametrize(
    ("backlog", "replicas", "threshold", "expected"),
    [
        pytest.param(49, 0, 50, 0, id="too few to wake"),
        pytest.param(50, 0, 50, None, id="enough to wake"),
        pytest.param(1, 0, 1, None, id="the default wakes on the first job"),
        pytest.param(49, 1, 50, None, id="awake already"),
    ],
)
def test_activation(backlog: int, replicas: int, threshold: int, expected: int | None) -> None:
    seen = look(sample(healthy(backlog), replicas), {"activationBacklog": threshold})
    assert after(clamps.activation(1, seen)) == expected


@pytest.mark.parametrize(
    ("running", "replicas", "number", "expected"),
    [
        pytest.param(64, 5, 1, None, id="one worker holds them"),
        pytest.param(65, 5, 1, 2, id="one more needs another worker"),
        pytest.param(1, 5, 0, 1, id="one running job keeps one worker"),
        pytest.param(0, 5, 0, None, id="nothing runs"),
        pytest.param(640, 5, 1, 5, id="never grows the pool"),
        pytest.param(640, 5, 8, None, id="growing is no matter of this rule"),
    ],
)
def test_running_jobs(running: int, replicas: int, number: int, expected: int | None) -> None:
    seen = look(sample(healthy(running=running), replicas), worker={"threads": 32, "processes": 2})
    assert after(clamps.running_jobs(number, seen)) == expected


@pytest.mark.parametrize(
    ("recommendations", "replicas", "number", "expected"),
    [
        pytest.param(((995.0, 4),), 5, 1, 4, id="the highest of the last seconds holds"),
        pytest.param(((995.0, 4), (998.0, 3)), 5, 1, 4, id="not the latest"),
        pytest.param(((995.0, 9),), 5, 1, 5, id="never grows the pool"),
        pytest.param(((990.0, 4),), 5, 1, None, id="too old to count"),
        pytest.param(((995.0, 4),), 5, 6, None, id="growing is never delayed"),
        pytest.param((), 5, 1, None, id="nothing remembered"),
    ],
)
def test_stabilization(
    recommendations: tuple[tuple[float, int], ...], replicas: int, number: int, expected: int | None
) -> None:
    seen = look(sample(healthy(), replicas), state=State(recommendations=recommendations))
    assert after(clamps.stabilization(number, seen)) == expected


def test_stabilization_says_until_when() -> None:
    clamp = clamps.stabilization(1, look(sample(healthy(), 5), state=State(recommendations=((995.0, 4),))))
    assert clamp is not None
    assert clamp.until == 1005.0
    assert clamp.why == "4 were needed 5 s ago; shrinking waits 10 s"


@pytest.mark.parametrize(
    ("idle_since", "replicas", "number", "expected"),
    [
        pytest.param(941.0, 3, 0, 1, id="not idle for long enough"),
        pytest.param(940.0, 3, 0, None, id="idle for all of it"),
        pytest.param(None, 3, 0, 1, id="idle since just now"),
        pytest.param(None, 0, 0, None, id="already at zero"),
        pytest.param(None, 3, 2, None, id="not going to zero"),
    ],
)
def test_cooldown(idle_since: float | None, replicas: int, number: int, expected: int | None) -> None:
    seen = look(sample(healthy(), replicas), {"cooldownSeconds": 60}, State(idle_since=idle_since))
    assert after(clamps.cooldown(number, seen)) == expected


def test_cooldown_says_until_when() -> None:
    clamp = clamps.cooldown(0, look(sample(healthy(), 1), state=State(idle_since=988.0)))
    assert clamp is not None
    assert (clamp.until, clamp.why) == (1048.0, "idle for 12 of cooldownSeconds 60")


def test_a_cooldown_of_zero_lets_go_at_once() -> None:
    assert clamps.cooldown(0, look(sample(healthy(), 1), {"cooldownSeconds": 0})) is None


@pytest.mark.parametrize(
    ("signal", "replicas", "number", "expected"),
    [
        pytest.param(healthy(), 5, 0, None, id="healthy"),
        pytest.param(lost(), 5, 0, 5, id="no signal holds"),
        pytest.param(lost(), 0, 0, None, id="no signal wakes nobody"),
        pytest.param(lost(), 2, 7, 2, id="no signal grows nothing"),
        pytest.param(counted(10), 5, 1, 5, id="PostgreSQL never shrinks"),
        pytest.param(counted(10), 2, 7, None, id="PostgreSQL may grow"),
        pytest.param(counted(10), 0, 1, None, id="PostgreSQL may wake"),
    ],
)
def test_signal_broken(signal: Any, replicas: int, number: int, expected: int | None) -> None:
    assert after(clamps.signal_broken(number, look(sample(signal, replicas)))) == expected


@pytest.mark.parametrize(("number", "expected"), [(1, 2), (2, None), (3, None)])
def test_min_replicas(number: int, expected: int | None) -> None:
    assert after(clamps.min_replicas(number, look(sample(healthy()), {"minReplicas": 2}))) == expected


@pytest.mark.parametrize(("number", "expected"), [(5, None), (6, 5)])
def test_max_replicas(number: int, expected: int | None) -> None:
    assert after(clamps.max_replicas(number, look(sample(healthy()), {"maxReplicas": 5}))) == expected


@pytest.mark.parametrize(("number", "expected"), [(0, 3), (3, None), (9, 3)])
def test_manual(number: int, expected: int | None) -> None:
    assert after(clamps.manual(number, look(sample(healthy()), mode="Manual", replicas=3))) == expected


@pytest.mark.parametrize(
    ("paused", "number", "expected"), [(True, 9, 4), (True, 0, 4), (True, 4, None), (False, 9, None)]
)
def test_paused(paused: bool, number: int, expected: int | None) -> None:
    assert after(clamps.paused(number, look(sample(healthy(), 4), paused=paused))) == expected


def test_what_people_set_comes_last_and_pause_has_the_last_word() -> None:
    assert clamps.AUTO[-3:] == (clamps.min_replicas, clamps.max_replicas, clamps.paused)
    assert (clamps.manual, clamps.paused) == clamps.MANUAL


def test_each_rule_bears_its_own_name_in_the_order_of_the_reasons() -> None:
    names = [rule.__name__.upper() for rule in (*clamps.AUTO[:-1], clamps.manual, clamps.paused)]
    assert names == [reason.name for reason in DecisionReason if reason not in {"Idle", "Backlog"}]
