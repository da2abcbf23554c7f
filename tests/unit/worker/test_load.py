"""What a process reports of its work; time moves when the test says so."""

from __future__ import annotations

import pytest

from postfleet_workers.jobs import Done, HandBack, Permanent, Snooze, Transient
from postfleet_workers.leases import Load
from postfleet_workers.worker import load
from postfleet_workers.worker.load import LoadMeter

DONE, FAILED, NEVER = Done(), Transient("not this time"), Permanent("never")
SNOOZED, HANDED_BACK = Snooze(30, "the node does not answer"), HandBack("held by a limit")


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
    with meter.busy() as outer:
        clock.seconds += 2
        with meter.busy() as inner:
            clock.seconds += 3
            inner.note(DONE, 3)
            assert meter.read() == Load(2, 0, 0.0)
        outer.note(DONE, 5)
        assert meter.read() == Load(1, 0, 3.0)
    clock.seconds += 10
    assert meter.read() == Load(0, 0, 8.0)


def test_a_long_bundle_counts_when_it_ends_and_once(clock: Clock) -> None:
    meter = LoadMeter()
    with meter.busy() as stint:
        for _ in range(3):
            clock.seconds += 1
            stint.note(DONE, 1)
            assert meter.read().busy_seconds == 0.0
    assert meter.read().busy_seconds == meter.read().busy_seconds == 3.0


def test_a_bundle_that_raises_is_over_all_the_same(clock: Clock) -> None:
    meter = LoadMeter()

    def fail() -> None:
        with meter.busy() as stint:
            clock.seconds += 1
            stint.note(DONE, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert meter.read() == Load(0, 0, 1.0)


def test_what_was_put_back_is_no_work_and_took_no_time(clock: Clock) -> None:
    """One mail runs into a node that does not answer, and 49 are put back in milliseconds: no pace to scale by."""
    meter = LoadMeter()
    with meter.busy() as stint:
        clock.seconds += 30
        stint.note(SNOOZED, 30)
        clock.seconds += 0.5
        for _ in range(49):
            stint.note(HANDED_BACK, 0.01)
    meter.settled([SNOOZED] + [HANDED_BACK] * 49)
    assert meter.read() == Load(0, 0, 0.0)


def test_the_time_around_the_jobs_belongs_to_those_that_were_done(clock: Clock) -> None:
    meter = LoadMeter()
    with meter.busy() as stint:
        clock.seconds += 1  # the claim, a session
        for outcome in (DONE, SNOOZED, FAILED, NEVER):
            clock.seconds += 2
            stint.note(outcome, 2)
        clock.seconds += 1  # writing the outcomes
    meter.settled([DONE, SNOOZED, FAILED, NEVER])
    assert meter.read() == Load(0, 3, 8.0)


def test_mail_that_every_receiver_defers_is_work_all_the_same(clock: Clock) -> None:
    """Greylisting answers each first try so, after a whole dialogue: without its pace a pool grows to its limit."""
    deferred = Snooze(300, "deferred at rcpt: 450 4.2.0 greylisted", worked=True)
    meter = LoadMeter()
    with meter.busy() as stint:
        for _ in range(50):
            clock.seconds += 0.1
            stint.note(deferred, 0.1)
    meter.settled([deferred] * 50)
    assert meter.read() == Load(0, 50, 5.0)


def test_settled_jobs_add_up(clock: Clock) -> None:
    meter = LoadMeter()
    meter.settled([DONE] * 50)
    meter.settled([FAILED])
    assert meter.read().completed == 51
