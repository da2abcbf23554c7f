"""What the operator learns: a worker's throughput from heartbeats, its start-up from pods."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_operator.progress import Beat, differences
from postfleet_operator.scaling import startup, throughput
from postfleet_operator.scaling.decide import first_state
from postfleet_operator.scaling.startup import GUESS_SECONDS, Startups
from postfleet_operator.scaling.throughput import ENOUGH, Throughput
from postfleet_operator.scaling.values import PodTimes, Work


def learned(*works: Work) -> Throughput:
    known = Throughput()
    for work in works:
        known = throughput.learn(known, work)
    return known


def test_the_pace_is_completions_per_busy_thread_second() -> None:
    # 40 jobs in 20 thread-seconds, whether one of 64 threads did them or ten.
    assert learned(Work(40, 20.0, 5.0, 1, 64)).per_thread() == pytest.approx(2.0)
    assert learned(Work(40, 20.0, 5.0, 10, 64)).per_thread() == pytest.approx(2.0)


def test_a_few_completions_are_a_guess() -> None:
    guess = learned(Work(ENOUGH - 1, 10.0, 5.0))
    assert not guess.known
    assert guess.per_thread() == pytest.approx(1.9)
    assert throughput.learn(guess, Work(1, 0.5, 5.0)).known


def test_what_was_measured_is_forgotten_by_completions_and_not_by_time() -> None:
    slow = learned(Work(1000, 1000.0, 60.0))
    idle = slow
    for _ in range(1000):
        idle = throughput.learn(idle, Work(0, 0.0, 5.0))
    assert idle.per_thread() == pytest.approx(1.0)
    quick = throughput.learn(slow, Work(2000, 200.0, 60.0))
    assert quick.per_thread() == pytest.approx(10.0, rel=0.02)


def test_what_is_handed_down_counts_as_measured() -> None:
    known = throughput.handed_down(38.2, 64)
    assert known.known
    assert (known.per_thread() or 0) * 64 == pytest.approx(38.2)


def test_only_an_interval_that_was_full_at_both_ends_shows_what_a_full_pool_does() -> None:
    quick = Work(100, 10.0, 5.0, 2, 10)
    ramp, full = Work(10, 2.0, 5.0, 9, 10), Work(100, 50.0, 5.0, 10, 10)
    assert learned(quick, ramp).best is None
    assert learned(quick, ramp, full).best == pytest.approx(2.0)
    assert learned(quick, ramp, full).per_thread() == pytest.approx(2.0)
    assert learned(ramp, quick, full).best is None
    joined = Work(100, 50.0, 5.0, 20, 20)
    assert learned(quick, ramp, joined).best is None
    assert learned(quick, ramp, joined, joined).best == pytest.approx(1.0)


@given(
    st.lists(st.builds(Work, st.integers(0, 500), st.floats(0, 500), st.floats(0, 30), st.integers(0, 64), st.just(64)))
)
def test_the_pace_is_never_more_than_was_seen(works: list[Work]) -> None:
    known = learned(*works)
    paces = [work.completed / work.busy_seconds for work in works if work.completed and work.busy_seconds]
    if (pace := known.per_thread()) is not None and paces:
        assert pace <= max(max(paces), throughput.SLOWEST) * (1 + 1e-9)


def pods(*seconds: float) -> list[PodTimes]:
    return [PodTimes(f"p{number}", 100.0, 100.0 + took) for number, took in enumerate(seconds)]


def test_a_start_up_is_guessed_remembered_or_seen() -> None:
    assert Startups().seconds == GUESS_SECONDS
    assert Startups(handed_down=12.0).seconds == 12.0
    assert startup.learn(Startups(handed_down=12.0), pods(3.0)).seconds == 3.0


def test_of_the_last_twenty_start_ups_the_95th_percentile_counts() -> None:
    known = startup.learn(Startups(), pods(*(float(n) for n in range(1, 41))))
    assert len(known.seen) == 20
    assert known.seconds == 39.0


def test_a_pod_that_turns_ready_again_has_not_started_again() -> None:
    known = startup.learn(Startups(), [PodTimes("a", 100.0, 103.0)])
    known = startup.learn(known, [PodTimes("a", 100.0, 900.0)])
    assert known.seconds == 3.0
    # Gone and unknown again, a name may be born anew.
    assert startup.learn(startup.learn(known, []), [PodTimes("a", 1000.0, 1007.0)]).seconds == 7.0


def test_nor_has_one_that_was_seen_not_ready_in_between() -> None:
    known = Startups()
    for ready_at in (None, 103.0, None, None, 7300.0):
        known = startup.learn(known, [PodTimes("a", 100.0, ready_at)])
    assert known.seen == (3.0,)


@pytest.mark.parametrize("ready_at", [None, 7300.0])
def test_a_pod_that_was_there_before_the_first_look_teaches_nothing(ready_at: float | None) -> None:
    known = first_state(1, 7290.0, startup_seconds=12.0).startups
    known = startup.learn(known, [PodTimes("a", 100.0, ready_at)])
    known = startup.learn(known, [PodTimes("a", 100.0, 7300.0)])
    assert known.seconds == 12.0, "it may have been Ready before"
    known = startup.learn(known, [PodTimes("a", 100.0, 7300.0), PodTimes("b", 7300.0, 7304.0)])
    assert known.seen == (4.0,)


def beat(completed: int, busy_seconds: float, seconds: float, *, age: float = 1000.0, **fields: int) -> Beat:
    shape = {"threads": 8, "busy": 4} | fields
    return Beat("default/email", shape["threads"], shape["busy"], completed, busy_seconds, seconds, age)


def test_heartbeats_of_a_pool_add_up() -> None:
    before = {"a": beat(100, 10.0, 50.0), "b": beat(7, 1.0, 50.0)}
    now = {"a": beat(150, 14.0, 55.0), "b": beat(17, 2.0, 60.0)}
    assert differences(before, now) == {"default/email": Work(60, 5.0, 7.5, 8, 16)}


def test_a_worker_without_a_new_heartbeat_has_no_news() -> None:
    same = {"a": beat(100, 10.0, 50.0)}
    assert differences(same, same) == {}


def test_a_worker_that_was_not_known_counts_from_its_start_if_it_has_only_just_started() -> None:
    known = {"old": beat(5, 1.0, 50.0)}
    young = {**known, "young": beat(20, 2.0, 52.0, age=4.0)}
    assert differences(known, young) == {"default/email": Work(20, 2.0, 4.0, 4, 8)}
    assert differences(known, {**known, "old too": beat(20, 2.0, 52.0, age=900.0)}) == {}
    assert differences({}, young) == {}, "the operator has only just started: nobody's past is news"


def test_a_counter_that_went_back_counts_nothing() -> None:
    [work] = differences({"a": beat(100, 10.0, 50.0)}, {"a": beat(3, 0.5, 55.0)}).values()
    assert (work.completed, work.busy_seconds) == (0, 0.0)
