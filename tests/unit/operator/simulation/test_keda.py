"""KEDA's half: from zero, to zero, and both halves together on a burst."""

from __future__ import annotations

import pytest

from postfleet_operator.simulation.keda import Keda, ScaledObject
from postfleet_operator.simulation.replay import replay
from unit.operator.simulation.scenes import scene

SPEC = ScaledObject(0, 20)


def test_it_wakes_on_more_than_the_activation_value_and_not_on_that_much() -> None:
    keda = Keda(ScaledObject(0, 20, activation_list_length=5))
    assert (keda.poll(5, 0, 0.0), keda.poll(6, 0, 30.0)) == (0, 1)


def test_activation_beats_scaling() -> None:
    """From the documentation: listLength 10, activation 50, 40 messages -> 0 replicas, although the HPA wants 4."""
    keda = Keda(ScaledObject(0, 20, list_length=10, activation_list_length=50, cooldown_seconds=0))
    assert keda.poll(40, 4, 30.0) == 0


def test_it_wakes_to_min_replicas_if_there_are_some() -> None:
    assert Keda(ScaledObject(3, 20)).poll(1, 0, 0.0) == 3


def test_to_zero_in_one_step_once_idle_for_longer_than_the_cooldown() -> None:
    keda = Keda(SPEC)
    assert keda.poll(1, 7, 0.0) == 7
    assert [keda.poll(0, 7, at) for at in (30.0, 300.0, 330.0)] == [7, 7, 0]


def test_never_active_is_idle_from_the_beginning() -> None:
    assert Keda(SPEC).poll(0, 2, 0.0) == 0


def test_min_replicas_keeps_it_from_zero() -> None:
    assert Keda(ScaledObject(1, 20)).poll(0, 1, 1e6) == 1


def test_a_burst_from_zero_to_twenty_takes_a_poll_and_three_syncs() -> None:
    """Found for KEDA 2.20 with an HPA: at most 75 s; the two loops run in step here, which saves up to 15 s."""
    run = replay(scene({0: 1000}, seconds=120, most=20, service_seconds=10.0), Keda(SPEC))
    # 0.0005 s after the poll at 0: the worst moment there is.
    assert run.replicas[:4] == ((0.0, 0), (30.0, 5), (45.0, 10), (60.0, 20))


@pytest.mark.parametrize("polling", [1.0, 2.0, 30.0])
def test_the_polling_interval_matters_only_at_zero(polling: float) -> None:
    spec = ScaledObject(1, 20, polling_interval_seconds=polling)
    run = replay(scene({20: 1000}, seconds=120, least=1, most=20, service_seconds=10.0), Keda(spec))
    assert [change for change in run.replicas if change[0] < 70] == [(0.0, 1), (30.0, 5), (45.0, 10), (60.0, 20)]
