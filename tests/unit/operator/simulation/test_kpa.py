"""Knative's pod autoscaler, against the cases of its own tests and configuration."""

from __future__ import annotations

from dataclasses import replace

import pytest

from postfleet_operator.simulation.kpa import DEFAULTS, Kpa, KpaConfig
from postfleet_operator.simulation.replay import replay
from unit.operator.simulation.scenes import constant, scene

# autoscaler_test.go: a target of 10 per pod, and all of it.
TARGET_10 = replace(DEFAULTS, target_utilization=1.0)


def kpa(concurrency: int = 10, config: KpaConfig = TARGET_10) -> Kpa:
    return Kpa(concurrency, 0, 1000, config)


@pytest.mark.parametrize(
    ("stable", "panic", "ready", "wanted"),
    [
        pytest.param(50, 50, 5, 5, id="at the target"),
        pytest.param(60, 60, 5, 6, id="stable mode grows"),
        pytest.param(100, 100, 8, 10, id="less than twice: no panic"),
        pytest.param(50, 100, 1, 10, id="TestAutoscalerPanicModeDoublePodCount: the panic window takes precedence"),
        pytest.param(1, 1, 100, 50, id="down to a half per tick"),
        pytest.param(0, 0, 1, 0, id="nothing to do"),
        pytest.param(0.1, 0.1, 0, 1, id="rounded up"),
    ],
)
def test_the_scale_for_both_windows(stable: float, panic: float, ready: int, wanted: int) -> None:
    assert kpa().scale(stable, panic, ready, 0.0) == wanted


def test_it_grows_at_most_a_thousandfold() -> None:
    assert kpa(1).scale(1e6, 1e6, 2, 0.0) == 2000


def test_panic_begins_at_twice_of_what_is_ready_and_not_before() -> None:
    assert kpa().scale(50, 99, 6, 0.0) == 5
    assert kpa().scale(50, 111, 6, 0.0) == 12


def test_panic_never_shrinks_and_ends_a_stable_window_after_the_last_reason() -> None:
    scaler = kpa()
    assert scaler.scale(100, 100, 1, 0.0) == 10
    assert [scaler.scale(20, 20, 10, at) for at in (2.0, 30.0, 60.0)] == [10, 10, 10]
    assert scaler.scale(20, 20, 10, 62.0) == 5  # a half per tick
    assert scaler.scale(20, 20, 5, 64.0) == 2


def test_the_default_target_is_70_percent_of_the_concurrency() -> None:
    assert kpa(100, DEFAULTS).scale(70, 70, 1, 0.0) == 1
    assert kpa(100, DEFAULTS).scale(71, 71, 1, 0.0) == 2


def test_a_burst_from_zero_is_answered_within_a_few_ticks() -> None:
    """Found for KPA: 0 -> 1 within 2 s, 0 -> 20 within 6 s."""
    run = replay(scene({10: 400}, seconds=60, service_seconds=30.0), Kpa(1, 0, 20))
    at, replicas = run.replicas[1]
    assert at <= 12.0
    assert replicas >= 1
    assert next(at for at, replicas in run.replicas if replicas == 20) <= 16.0


def test_a_steady_load_keeps_its_replicas() -> None:
    run = replay(constant(7, 600, threads=10), Kpa(10, 0, 20))
    late = [replicas for at, replicas in run.replicas if at > 200]
    assert late == []
    assert run.replicas[-1][1] == 1


def test_to_zero_after_the_window_and_the_grace_period() -> None:
    run = replay(scene({10: 1}, seconds=400), Kpa(10, 0, 20))
    zero = next(at for at, replicas in run.replicas if at > 12 and replicas == 0)
    assert 10 + 60 <= zero <= 10 + 60 + 30 + 10
