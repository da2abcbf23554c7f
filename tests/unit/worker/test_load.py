"""What a process reports of its work; time moves when the test says so."""

from __future__ import annotations

import pytest

from postfleet_workers.leases import Load
from postfleet_workers.worker import load
from postfleet_workers.worker.load import LoadMeter


class Clock:
    def __init__(self) -> None:
        self.seconds = 100.0

    def monotonic(self) -> float:
        return self.seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(load, "clock", clock)
    return clock


def test_a_process_that_did_nothing_reports_nothing(clock: Clock) -> None:
    meter = LoadMeter()
    clock.seconds += 60
    assert meter.read() == Load(0, 0, 0.0)


def test_threads_count_while_they_are_inside_a_bundle(clock: Clock) -> None:
    meter = LoadMeter()
    with meter.busy():
        clock.seconds += 2
        with meter.busy():
            clock.seconds += 3
            assert meter.read() == Load(2, 0, 0.0)
        assert meter.read() == Load(1, 0, 3.0)
    clock.seconds += 10
    assert meter.read() == Load(0, 0, 8.0)


def test_a_long_bundle_counts_when_it_ends_and_once(clock: Clock) -> None:
    meter = LoadMeter()
    with meter.busy():
        for _ in range(3):
            clock.seconds += 1
            assert meter.read().busy_seconds == 0.0
    assert meter.read().busy_seconds == meter.read().busy_seconds == 3.0


def test_a_bundle_that_raises_is_over_all_the_same(clock: Clock) -> None:
    meter = LoadMeter()

    def fail() -> None:
        with meter.busy():
            clock.seconds += 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert meter.read() == Load(0, 0, 1.0)


def test_settled_jobs_add_up(clock: Clock) -> None:
    meter = LoadMeter()
    meter.settled(50)
    meter.settled(1)
    assert meter.read().completed == 51
