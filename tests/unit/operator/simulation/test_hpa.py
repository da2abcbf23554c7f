"""The HPA, against what its documentation says and against what is known to come of it."""

from __future__ import annotations

import pytest

from postfleet_operator.simulation.hpa import Behavior, Hpa, desired


@pytest.mark.parametrize(
    ("metric", "target", "replicas", "wanted"),
    [
        # "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled"
        pytest.param(200 * 3, 100, 3, 6, id="twice the target doubles"),
        # "if the current value is instead 50m, the number of replicas will be halved"
        pytest.param(50 * 4, 100, 4, 2, id="half the target halves"),
        pytest.param(41, 4, 10, 10, id="kubernetes#116984: the 41st task of ten pods is ignored"),
        pytest.param(43, 4, 10, 10, id="within the tolerance"),
        pytest.param(45, 4, 10, 12, id="beyond it, rounded up"),
        pytest.param(36, 4, 10, 10, id="within it, below"),
        pytest.param(35, 4, 10, 9, id="beyond it, down"),
        pytest.param(0, 5, 7, 0, id="nothing to do"),
    ],
)
def test_the_formula_and_its_tolerance(metric: float, target: float, replicas: int, wanted: int) -> None:
    assert desired(metric, target, replicas) == wanted


def climb(hpa: Hpa, metrics: list[float], replicas: int) -> list[int]:
    seen = []
    for k, metric in enumerate(metrics):
        replicas = hpa.sync(metric, replicas, 15.0 * k)
        seen.append(replicas)
    return seen


def test_it_grows_by_four_pods_or_by_half_again_as_many_as_there_are_whichever_is_more() -> None:
    assert climb(Hpa(5, 1, 100), [1e6] * 6, 1) == [5, 10, 20, 40, 80, 100]


def test_two_syncs_within_a_period_share_its_allowance() -> None:
    hpa = Hpa(5, 1, 100)
    assert hpa.sync(1e6, 4, 0.0) == 8
    assert hpa.sync(1e6, 8, 5.0) == 8
    assert hpa.sync(1e6, 8, 15.0) == 16


def test_it_shrinks_once_five_minutes_agree_to_the_most_that_was_wanted_in_them() -> None:
    hpa, replicas, seen = Hpa(10, 1, 100), 10, {}
    for k in range(30):
        now = 15.0 * k
        replicas = hpa.sync(100 if now < 60 else 60 if now < 120 else 20, replicas, now)
        seen[now] = replicas
    # 10 were wanted last at 45 s, 6 last at 105 s.
    assert (seen[330.0], seen[345.0], seen[390.0], seen[405.0]) == (10, 6, 6, 2)


def test_what_it_finds_counts_as_wanted() -> None:
    assert Hpa(10, 1, 100).sync(0, 8, 0.0) == 8


def test_never_below_min_or_above_max() -> None:
    instant = Behavior(down_window_seconds=0)
    assert Hpa(10, 3, 6, instant).sync(0, 5, 0.0) == 3
    assert Hpa(10, 3, 6).sync(1000, 5, 0.0) == 6


def test_at_zero_it_is_disabled() -> None:
    assert Hpa(10, 1, 6).sync(1000, 0, 0.0) == 0


def test_a_policy_of_pods_and_percent_as_in_the_documentation() -> None:
    """scaleUp 900 %/60 s from 1: "1 -> 10 -> 100 -> 1000"; scaleDown 10 % removes a tenth."""
    fast = Behavior(up_percent=900, up_pods=0, period_seconds=60)
    hpa, replicas = Hpa(1, 1, 1000, fast), 1
    seen = [replicas := hpa.sync(1e6, replicas, 60.0 * k) for k in range(3)]
    assert seen == [10, 100, 1000]
    slow = Behavior(down_percent=10, period_seconds=60, down_window_seconds=0)
    assert Hpa(1, 1, 1000, slow).sync(0, 80, 0.0) == 72
