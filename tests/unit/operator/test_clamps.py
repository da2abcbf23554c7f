"""Each rule of the scaling decision, alone: what it lets through and what it changes."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling import clamps, floors
from postfleet_operator.scaling.clamps import Look
from postfleet_operator.scaling.demand import measure
from postfleet_operator.scaling.startup import Startups
from postfleet_operator.scaling.state import Recommendation, State
from postfleet_operator.scaling.values import Clamp, PodTimes, Sample, Signal
from postfleet_operator.spec import Mode, PoolSpec
from postfleet_operator.spec.pool import Schedule
from unit.operator.building import counted, healthy, latency_spec, load, looks, lost, measured, sample, spec

NOW = 1000.0


def look(seen: Sample, autoscaling: dict[str, Any] | None = None, state: State | None = None, **fields: Any) -> Look:
    return view(seen, spec(autoscaling=autoscaling, **fields), state or State())


def view(seen: Sample, pool: PoolSpec, state: State) -> Look:
    return Look(seen, pool, state, NOW, measure(seen.signal, pool, state.throughput, state.startups.seconds))


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
    ("signal", "number", "expected"),
    [
        pytest.param(load(1000, permitted_per_second=50.0), 30, 5, id="fifty a second keep five busy"),
        pytest.param(load(1000, permitted_per_second=51.0), 30, 6, id="and a sixth a little"),
        pytest.param(load(1000, permitted_per_second=0.1), 30, 1, id="whatever is let through gets one"),
        pytest.param(load(1000, permitted_per_second=50.0), 4, None, id="fewer are needed anyway"),
        pytest.param(load(100, permitted_per_second=50.0), 3, None, id="the limit does not bind"),
        pytest.param(load(1000), 30, None, id="no limit"),
    ],
)
def test_throttle(signal: Signal, number: int, expected: int | None) -> None:
    assert after(clamps.throttle(number, view(sample(signal, 2), latency_spec(), measured()))) == expected


def test_a_backlog_target_knows_limits_once_its_workers_are_measured() -> None:
    signal = load(10_000, permitted_per_second=50.0)
    pool = spec(worker={"threads": 1})
    assert after(clamps.throttle(20, view(sample(signal, 2), pool, measured()))) == 5
    assert clamps.throttle(20, view(sample(signal, 2), pool, State())) is None


@pytest.mark.parametrize(
    ("replicas", "ready", "grown_at", "number", "expected"),
    [
        pytest.param(0, 0, None, 1, None, id="the first one"),
        pytest.param(0, 0, None, 9, 1, id="one at first, however many wait"),
        pytest.param(2, 2, 990.0, 9, 4, id="twice as many once the last are at work"),
        pytest.param(2, 2, 996.0, 9, 2, id="not before a start-up has passed"),
        pytest.param(2, 1, 900.0, 9, 2, id="not while one is starting"),
        pytest.param(4, 4, 990.0, 3, None, id="shrinking is no matter of this rule"),
    ],
)
def test_unmeasured(replicas: int, ready: int, grown_at: float | None, number: int, expected: int | None) -> None:
    state = State(grown_at=grown_at)
    assert after(clamps.unmeasured(number, view(sample(load(500), replicas, ready), latency_spec(), state))) == expected


def test_unmeasured_ends_with_the_measurement_and_knows_no_backlog_target() -> None:
    assert clamps.unmeasured(9, view(sample(load(500), 2), latency_spec(), measured())) is None
    assert clamps.unmeasured(9, look(sample(load(500), 2))) is None


@pytest.mark.parametrize(
    ("signal", "ready", "grown_at", "number", "expected"),
    [
        # 10 workers of 10/s were asked for 4 s ago and are starting; 100/s arrive, so 400 jobs have piled up since.
        pytest.param(load(400, 100.0, oldest=4.0), 0, 996.0, 26, 10, id="all of it piled up since"),
        pytest.param(load(900, 100.0, oldest=4.0), 0, 996.0, 46, 28, id="500 did not: 100/s + 500 within 2.8 s"),
        pytest.param(load(400, 100.0, oldest=4.0), 10, 996.0, 26, None, id="nobody is starting"),
        pytest.param(load(400, 100.0, oldest=4.0), 0, None, 26, None, id="it never grew"),
        pytest.param(load(400, 100.0, oldest=4.0), 0, 996.0, 8, None, id="it does not grow"),
    ],
)
def test_starting(signal: Signal, ready: int, grown_at: float | None, number: int, expected: int | None) -> None:
    state = measured(grown_at=grown_at, startups=Startups(handed_down=2.2))
    assert after(clamps.starting(number, view(sample(signal, 10, ready), latency_spec(), state))) == expected


FIRST, SECOND = PodTimes("a", 900.0, 902.0), PodTimes("e", 900.0, 902.0)
LOST = PodTimes("f", 900.0)
HOMELESS = PodTimes("b", 990.0, None, unschedulable=True)
LATE, LATE_TOO = PodTimes("c", 930.0), PodTimes("g", 930.0)
STARTED = Startups(started=frozenset({"a", "e", "f"}))


def crew(*pods: PodTimes, grown_at: float | None = None) -> tuple[Sample, State]:
    """Workers of which a, e and f have been Ready, and what was learned from them."""
    ready = sum(pod.ready_at is not None for pod in pods)
    started = frozenset(pod.name for pod in pods) & {"a", "e", "f"}
    seen = Sample(load(500), len(pods), ready, len(pods) - ready, pods)
    return seen, measured(startups=Startups(started=started), grown_at=grown_at)


@pytest.mark.parametrize(
    ("pods", "number", "expected"),
    [
        pytest.param((FIRST, HOMELESS), 5, 2, id="no place for one"),
        pytest.param((FIRST, SECOND, LOST, HOMELESS), 9, 4, id="no place for one of many"),
        pytest.param((FIRST, LATE), 5, 2, id="one is not Ready after more than a minute"),
        pytest.param((LATE, LATE_TOO), 5, 2, id="none is"),
        pytest.param((FIRST, LATE, LATE_TOO), 5, 3, id="most are not"),
        pytest.param((FIRST, SECOND, LATE), 9, 4, id="most are: as many again may be tried"),
        pytest.param((FIRST, SECOND, LATE, LATE_TOO), 9, 4, id="and fail, but no more"),
        pytest.param((FIRST, SECOND, LATE), 4, None, id="fewer than that"),
        pytest.param((FIRST, PodTimes("d", 941.0)), 5, None, id="one is merely starting"),
        pytest.param((FIRST, LOST), 5, None, id="one was Ready, and is lost"),
        pytest.param((LOST,), 5, None, id="the only one is lost"),
        pytest.param((HOMELESS,), 1, None, id="shrinking is no matter of this rule"),
    ],
)
def test_unschedulable(pods: tuple[PodTimes, ...], number: int, expected: int | None) -> None:
    seen, state = crew(*pods)
    assert after(clamps.unschedulable(number, view(seen, latency_spec(), state))) == expected


def test_a_late_worker_is_told_with_those_that_came() -> None:
    seen, state = crew(FIRST, SECOND, LATE)
    clamp = clamps.unschedulable(9, view(seen, latency_spec(), state))
    assert clamp is not None
    assert clamp.why == "1 workers were never Ready in 60 s: at most twice as many as the 2 that were"


def test_only_what_may_yet_come_counts_as_starting() -> None:
    def capped(*pods: PodTimes) -> int | None:
        seen, state = crew(*pods, grown_at=960.0)
        return after(clamps.starting(9, view(replace(seen, signal=load(400, 30.0)), latency_spec(), state)))

    assert capped(FIRST, SECOND, PodTimes("d", 960.0)) == 3
    assert capped(FIRST, SECOND, LOST) is None
    assert capped(FIRST, SECOND, LATE) is None


def test_nor_does_an_unmeasured_pool_wait_for_a_lost_worker() -> None:
    seen, _ = crew(FIRST, LOST)
    state = State(grown_at=900.0, startups=STARTED)
    assert after(clamps.unmeasured(9, view(seen, latency_spec(), state))) == 4


@pytest.mark.parametrize(
    ("due", "replicas", "number", "expected"),
    [
        pytest.param(1012.0, 0, 0, 1, id="in a start-up and a look"),
        pytest.param(1012.1, 0, 0, None, id="not yet"),
        pytest.param(990.0, 0, 0, 1, id="overdue"),
        pytest.param(None, 0, 0, None, id="nothing is scheduled"),
        pytest.param(1001.0, 1, 1, None, id="somebody is there"),
        pytest.param(1001.0, 1, 0, 1, id="the last one stays for it"),
    ],
)
def test_due_soon(due: float | None, replicas: int, number: int, expected: int | None) -> None:
    state = State(startups=Startups(handed_down=10.0))
    seen = look(sample(healthy(next_run_at=due), replicas), state=state)
    assert after(clamps.due_soon(number, seen)) == expected


# 1000 s after the epoch it is 00:16:40 in UTC, and 01:16:40 in Berlin.
@pytest.mark.parametrize(
    ("schedule", "number", "expected"),
    [
        pytest.param({"cron": "15 0 * * *"}, 1, 5, id="on"),
        pytest.param({"cron": "15 1 * * *", "timezone": "Europe/Berlin"}, 1, 5, id="on, in its own time zone"),
        pytest.param({"cron": "15 1 * * *"}, 1, None, id="off"),
        pytest.param({"cron": "0 0 * * *"}, 1, None, id="over"),
        pytest.param({"cron": "17 0 * * *"}, 1, 5, id="on by the time that workers are up"),
        pytest.param({"cron": "18 0 * * *"}, 1, None, id="too early to start them"),
        pytest.param({"cron": "15 0 * * *"}, 7, None, id="more are there anyway"),
    ],
)
def test_schedule(schedule: dict[str, Any], number: int, expected: int | None) -> None:
    policy = {"schedules": [{"durationMinutes": 10, "minReplicas": 5, **schedule}]}
    state = State(startups=Startups(handed_down=20.0))
    assert after(clamps.schedule(number, look(sample(healthy(), 1), policy, state))) == expected


@pytest.mark.parametrize(
    ("cron", "timezone", "on", "off"),
    [
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-10-25T00:30", "2026-10-25T01:30", id="the hour twice"),
        pytest.param("10 0,2 * * *", "Europe/Berlin", "2026-10-25T00:10", "2026-10-25T01:10", id="the later of two"),
        pytest.param("30 1 * * *", "America/New_York", "2026-11-01T05:30", "2026-11-01T06:30", id="west of Greenwich"),
        pytest.param("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:45", "2026-04-04T15:45", id="half an hour"),
        pytest.param("30 1 * * *", "Antarctica/Troll", "2026-10-24T23:30", "2026-10-25T00:30", id="two hours"),
        pytest.param("30 2 * * *", "Europe/Berlin", "2026-03-29T01:00", "2026-03-29T02:00", id="an hour that is not"),
        pytest.param("30 3 * * *", "Europe/Berlin", "2026-10-25T02:30", "2026-10-25T03:30", id="the hour after"),
    ],
)
def test_a_floor_lasts_as_long_where_the_clocks_change(cron: str, timezone: str, on: str, off: str) -> None:
    schedule = Schedule(cron=cron, timezone=timezone, duration_minutes=60, min_replicas=1)
    begin, end = (round(datetime.fromisoformat(f"{at}Z").timestamp()) for at in (on, off))
    looked = range(begin - 3600, end + 3600, 300)
    assert [at for at in looked if floors.active(schedule, at)] == [at for at in looked if begin <= at < end]


def test_what_fires_by_the_minute_fires_in_both_of_two_hours() -> None:
    schedule = Schedule(cron="30 * * * *", timezone="Europe/Berlin", duration_minutes=10, min_replicas=1)
    begin = round(datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp())
    assert [floors.active(schedule, begin + minutes * 60) for minutes in (0, 10, 59, 60, 69, 70)] == [
        *(True, False, False),
        *(True, True, False),
    ]


@pytest.mark.parametrize(
    ("waiting", "arrivals", "oldest", "replicas", "expected"),
    [
        pytest.param(0, 104.0, 0.0, 10, 10, id="4 % more is no reason"),
        pytest.param(0, 92.0, 0.0, 11, None, id="16 % fewer is one"),
        pytest.param(0, 96.0, 0.0, 10, None, id="rounds to what there is"),
        pytest.param(5, 103.0, 3.0, 10, None, id="but somebody waits for more than half of the target"),
        pytest.param(0, 0.0, 0.0, 1, None, id="nothing is needed"),
        pytest.param(0, 20.0, 0.0, 0, None, id="from zero"),
    ],
)
def test_tolerance(waiting: int, arrivals: float, oldest: float, replicas: int, expected: int | None) -> None:
    seen = view(sample(load(waiting, arrivals, oldest), replicas), latency_spec(), measured())
    assert seen.demand.replicas is not None
    assert after(clamps.tolerance(seen.demand.replicas, seen)) == expected


def test_tolerance_leaves_a_floor_alone() -> None:
    seen = view(sample(load(0, 104.0), 10), latency_spec(), measured())
    assert clamps.tolerance(12, seen) is None


@pytest.mark.parametrize(
    ("recommendations", "replicas", "number", "expected"),
    [
        pytest.param(((995.0, 4),), 2, 8, 4, id="the lowest of the last seconds holds"),
        pytest.param(((995.0, 1),), 2, 8, 2, id="never shrinks the pool"),
        pytest.param(((969.0, 4),), 2, 8, None, id="too old to count"),
        pytest.param(((995.0, 4),), 8, 6, None, id="shrinking is no matter of this rule"),
    ],
)
def test_scale_up_window(
    recommendations: tuple[tuple[float, int], ...], replicas: int, number: int, expected: int | None
) -> None:
    policy = {"scaleUp": {"stabilizationWindowSeconds": 30}}
    seen = look(sample(healthy(), replicas), policy, State(recommendations=looks(recommendations)))
    assert after(clamps.scale_up_window(number, seen)) == expected


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
def test_scale_down_window(
    recommendations: tuple[tuple[float, int], ...], replicas: int, number: int, expected: int | None
) -> None:
    seen = look(sample(healthy(), replicas), state=State(recommendations=looks(recommendations)))
    assert after(clamps.scale_down_window(number, seen)) == expected


def test_the_window_says_until_when() -> None:
    clamp = clamps.scale_down_window(1, look(sample(healthy(), 5), state=State(recommendations=looks(((995.0, 4),)))))
    assert clamp is not None
    assert clamp.until == 1005.0
    assert clamp.why == "4 were needed 5 s ago; shrinking waits 10 s"


@pytest.mark.parametrize(
    ("remembered", "why", "until"),
    [
        # With start-ups of 5 s, what cleared a backlog is kept for 10 s.
        pytest.param([(995.0, 8, 2)], "8 were needed 5 s ago; shrinking waits 10 s", 1005.0, id="for a backlog"),
        pytest.param([(995.0, 8, 8)], "8 were needed 5 s ago; shrinking waits 60 s", 1055.0, id="for what arrives"),
        pytest.param([(980.0, 8, 2)], "2 were needed 20 s ago; shrinking waits 60 s", 1040.0, id="a backlog long gone"),
        pytest.param(
            [(960.0, 8, 8), (995.0, 8, 2)],
            "8 were needed 40 s ago; shrinking waits 60 s",
            1020.0,
            id="the longest holds",
        ),
    ],
)
def test_the_window_keeps_what_cleared_a_backlog_no_longer_than_it_takes_to_get_it_back(
    remembered: list[tuple[float, int, int]], why: str, until: float
) -> None:
    state = State(recommendations=tuple(Recommendation(*each) for each in remembered))
    policy = {"scaleDown": {"stabilizationWindowSeconds": 60}}
    clamp = clamps.scale_down_window(1, look(sample(healthy(), 9), policy, state))
    assert clamp is not None
    assert (clamp.why, clamp.until) == (why, until)


PODS_4 = {"type": "Pods", "value": 4, "periodSeconds": 15}
DOUBLE = {"type": "Percent", "value": 100, "periodSeconds": 15}


@pytest.mark.parametrize(
    ("rules", "changes", "replicas", "number", "expected"),
    [
        pytest.param({}, (), 10, 90, None, id="no policy, no limit"),
        pytest.param({"policies": [PODS_4]}, (), 10, 90, 14, id="so many pods"),
        pytest.param({"policies": [PODS_4]}, (), 10, 12, None, id="fewer than that"),
        pytest.param({"policies": [PODS_4]}, ((990.0, 3),), 10, 90, 11, id="three of them are used up"),
        pytest.param({"policies": [PODS_4]}, ((984.0, 3),), 10, 90, 14, id="no longer"),
        pytest.param({"policies": [PODS_4]}, ((990.0, 9),), 10, 90, 10, id="more than used up"),
        pytest.param({"policies": [PODS_4, DOUBLE]}, (), 10, 90, 20, id="the policy that allows most"),
        pytest.param({"policies": [PODS_4, DOUBLE], "selectPolicy": "Min"}, (), 10, 90, 14, id="or least"),
        pytest.param({"selectPolicy": "Disabled"}, (), 10, 90, 10, id="or none"),
        pytest.param({"policies": [DOUBLE]}, (), 0, 90, 1, id="a percentage of nobody lets the first one in"),
        pytest.param({"policies": [DOUBLE]}, ((999.0, -5),), 5, 90, 20, id="what has just gone may come back"),
    ],
)
def test_scale_up_policy(
    rules: dict[str, Any], changes: tuple[tuple[float, int], ...], replicas: int, number: int, expected: int | None
) -> None:
    seen = look(sample(healthy(), replicas), {"scaleUp": rules}, State(changes=changes))
    assert after(clamps.scale_up_policy(number, seen)) == expected


@pytest.mark.parametrize(
    ("rules", "changes", "replicas", "number", "expected"),
    [
        pytest.param({}, (), 10, 0, None, id="no policy, no limit"),
        pytest.param({"policies": [PODS_4]}, (), 10, 0, 6, id="so many pods"),
        pytest.param({"policies": [PODS_4]}, ((990.0, -4),), 6, 0, 6, id="they are used up"),
        pytest.param({"policies": [{**DOUBLE, "value": 50}]}, (), 5, 0, 2, id="a percentage, rounded down"),
        pytest.param({"policies": [PODS_4, DOUBLE]}, (), 10, 2, None, id="the policy that allows most"),
        pytest.param({"policies": [PODS_4, DOUBLE], "selectPolicy": "Min"}, (), 10, 0, 6, id="or least"),
        pytest.param({"selectPolicy": "Disabled"}, (), 10, 0, 10, id="never shrinks"),
    ],
)
def test_scale_down_policy(
    rules: dict[str, Any], changes: tuple[tuple[float, int], ...], replicas: int, number: int, expected: int | None
) -> None:
    policy = {"stabilizationWindowSeconds": 0, **rules}
    seen = look(sample(healthy(), replicas), {"scaleDown": policy}, State(changes=changes))
    assert after(clamps.scale_down_policy(number, seen)) == expected


@pytest.mark.parametrize(
    ("busy", "replicas", "number", "expected"),
    [
        pytest.param(64, 5, 1, None, id="one worker holds them"),
        pytest.param(65, 5, 1, 2, id="one more needs another worker"),
        pytest.param(1, 5, 0, 1, id="one running job keeps one worker"),
        pytest.param(0, 5, 0, None, id="nothing runs"),
        pytest.param(640, 5, 1, 5, id="never grows the pool"),
        pytest.param(640, 5, 8, None, id="growing is no matter of this rule"),
    ],
)
def test_running_jobs(busy: int, replicas: int, number: int, expected: int | None) -> None:
    seen = look(sample(healthy(running_bundles=busy), replicas), worker={"threads": 32, "processes": 2})
    assert after(clamps.running_jobs(number, seen)) == expected


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


@pytest.mark.parametrize(("number", "expected"), [(9, 4), (0, 4), (4, None)])
def test_external(number: int, expected: int | None) -> None:
    assert after(clamps.external(number, look(sample(healthy(), 4), mode="External"))) == expected


def test_what_people_set_comes_last_and_pause_has_the_last_word() -> None:
    assert clamps.SET[Mode.AUTO] == (clamps.min_replicas, clamps.max_replicas, clamps.paused)
    assert clamps.SET[Mode.MANUAL] == (clamps.manual, clamps.paused)


def test_each_rule_bears_its_own_name_in_the_order_of_the_reasons() -> None:
    rules = (*clamps.NEED, *clamps.PACE, clamps.min_replicas, clamps.max_replicas, clamps.manual, clamps.external)
    names = [rule.__name__.upper() for rule in (*rules, clamps.paused)]
    sources = {"Idle", "Backlog", "Latency"}
    assert names == [reason.name for reason in DecisionReason if reason not in sources]
