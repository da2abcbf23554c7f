"""The scaling decision as a whole: examples in the words of the status."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.reasons import DecisionReason
from postfleet_operator.scaling.decide import decide, first_state, remember
from postfleet_operator.scaling.state import State
from postfleet_operator.scaling.throughput import Throughput
from postfleet_operator.scaling.values import Bottleneck, Decision, QueueLoad, Sample, Signal, Source, Work
from postfleet_operator.scaling.wording import number
from unit.operator.building import counted, healthy, latency_spec, load, lost, measured, sample, spec


def decided(seen: Sample, state: State | None = None, now: float = 1000.0, **fields: Any) -> Decision:
    return decide(seen, spec(**fields), state or State(), now)


@pytest.mark.parametrize(
    ("signal", "backlog"),
    [
        pytest.param(Signal(ready=3, in_flight=2, held=4), 9, id="in Redis and held"),
        pytest.param(Signal(ready=3, in_flight=2, running=2), 5, id="running is part of in flight"),
        pytest.param(Signal(running=7, held=1), 8, id="Redis was flushed under running jobs"),
        pytest.param(Signal(throttled=1000, scheduled=1000), 0, id="limits and later are no backlog"),
    ],
)
def test_the_backlog_is_what_workers_could_speed_up(signal: Signal, backlog: int) -> None:
    assert signal.backlog == backlog


@pytest.mark.parametrize(("backlog", "replicas"), [(0, 0), (1, 1), (500, 1), (501, 2), (10_000, 20), (10_001, 20)])
def test_it_jumps_from_zero_straight_to_what_is_needed(backlog: int, replicas: int) -> None:
    assert decided(sample(healthy(backlog))).after == replicas


def test_a_decision_explains_itself_with_numbers() -> None:
    signal = healthy(40_000, throttled=300, throttled_by={"node acme-1 per_minute": 250, "tenant x paused": 50})
    decision = decided(sample(signal, 3))
    assert decision.message == (
        "3 -> 20: 40,000 jobs / 500 per worker = 80 (300 more wait for a limit: node acme-1 per_minute); "
        "MaxReplicas 80 -> 20, maxReplicas is 20"
    )
    assert (decision.before, decision.after, decision.needed) == (3, 20, 80)
    assert decision.reason is DecisionReason.MAX_REPLICAS
    assert decision.inputs["backlog"] == 40_000


@pytest.mark.parametrize(
    ("seen", "fields", "reason", "message"),
    [
        pytest.param(sample(healthy()), {}, "Idle", "stays at 0: nothing is due", id="idle"),
        pytest.param(
            sample(healthy(900), 1),
            {},
            "Backlog",
            "1 -> 2: 900 jobs / 500 per worker = 2",
            id="what the backlog asks for",
        ),
        pytest.param(
            sample(lost(), 4),
            {},
            "SignalBroken",
            "stays at 4: the backlog is not known; Cooldown 0 -> 1, idle for 0 of cooldownSeconds 60; "
            "SignalBroken 1 -> 4, the signal is broken: Redis cannot be read",
            id="held",
        ),
        pytest.param(sample(lost(), 0), {}, "SignalBroken", "stays at 0: the backlog is not known", id="held at zero"),
        pytest.param(
            sample(healthy(900), 1),
            {"mode": "Manual", "replicas": 7},
            "Manual",
            "1 -> 7: 900 jobs / 500 per worker = 2; Manual 2 -> 7, mode is Manual, replicas is 7",
            id="manual",
        ),
        pytest.param(
            sample(healthy(900), 1),
            {"mode": "Manual", "replicas": 2},
            "Manual",
            "1 -> 2: 900 jobs / 500 per worker = 2",
            id="manual that happens to fit",
        ),
        pytest.param(
            sample(healthy(900), 1),
            {"paused": True},
            "Paused",
            "stays at 1: 900 jobs / 500 per worker = 2; Paused 2 -> 1, the pool is paused",
            id="paused",
        ),
    ],
)
def test_reasons_and_messages(seen: Sample, fields: dict[str, Any], reason: str, message: str) -> None:
    decision = decided(seen, **fields)
    assert (decision.reason, decision.message) == (reason, message)


@pytest.mark.parametrize(
    ("seen", "fields", "bottleneck"),
    [
        pytest.param(sample(healthy()), {}, Bottleneck.NONE, id="nothing to do"),
        pytest.param(sample(healthy(400), 1), {}, Bottleneck.NONE, id="enough workers"),
        pytest.param(sample(healthy(900), 1), {}, Bottleneck.WORKERS, id="more are needed"),
        pytest.param(sample(load(900), 2, 1), {}, Bottleneck.STARTING, id="asked for, not ready"),
        pytest.param(sample(healthy(90_000), 20), {}, Bottleneck.MAX_REPLICAS, id="at the top"),
        pytest.param(sample(healthy(throttled=9), 1), {}, Bottleneck.THROTTLE, id="limits hold the rest"),
        pytest.param(sample(healthy(900, throttled=9), 1), {}, Bottleneck.WORKERS, id="workers before limits"),
        pytest.param(sample(counted(900), 1), {}, Bottleneck.SIGNAL, id="counted"),
        pytest.param(sample(lost(), 1), {}, Bottleneck.SIGNAL, id="lost"),
        pytest.param(sample(healthy(900), 1), {"paused": True}, Bottleneck.WORKERS, id="paused"),
        pytest.param(sample(healthy(900), 1), {"mode": "Manual", "replicas": 1}, Bottleneck.WORKERS, id="manual"),
        pytest.param(
            sample(healthy(3)), {"autoscaling": {"activationBacklog": 5}}, Bottleneck.NONE, id="waits for more"
        ),
    ],
)
def test_bottlenecks(seen: Sample, fields: dict[str, Any], bottleneck: Bottleneck) -> None:
    assert decided(seen, **fields).bottleneck is bottleneck


class Pool:
    """A pool whose workers appear at once, looked at every two seconds."""

    def __init__(self, replicas: int = 0, **fields: Any) -> None:
        self.spec, self.replicas, self.now = spec(**fields), replicas, 1000.0
        self.state = first_state(replicas, self.now)

    def look(self, signal: Signal, seconds: float = 2.0) -> int:
        self.now += seconds
        seen = sample(signal, self.replicas)
        decision = decide(seen, self.spec, self.state, self.now)
        self.state = remember(self.state, seen, self.spec, decision)
        self.replicas = decision.after
        return self.replicas

    def run(self, signal: Signal, seconds: int) -> list[int]:
        return [self.look(signal) for _ in range(seconds // 2)]


def test_a_campaign_goes_up_at_once_down_with_its_tail_and_to_zero_after_the_cooldown() -> None:
    pool = Pool()
    assert pool.look(healthy(5000)) == 10
    assert pool.run(healthy(600), 10) == [10, 10, 10, 10, 2]
    assert pool.run(healthy(0), 10) == [2, 2, 2, 2, 1]
    # Idle since its first empty look, 8 s before the last one above.
    assert pool.run(healthy(0), 50) == [1] * 25
    assert pool.look(healthy(0)) == 0
    assert pool.look(healthy(1)) == 1


def test_a_tail_that_bounces_does_not_shake_the_pool() -> None:
    pool = Pool()
    pool.look(healthy(2000))
    assert {pool.look(healthy(backlog)) for backlog in [0, 1900, 100, 1800, 0, 0, 2000] * 3} == {4}


def test_idleness_starts_anew_after_a_broken_look() -> None:
    pool = Pool(replicas=1, autoscaling={"cooldownSeconds": 20})
    pool.run(healthy(0), 18)
    assert pool.look(lost()) == 1
    assert pool.run(healthy(0), 20) == [1] * 10
    assert pool.look(healthy(0)) == 0


def test_a_restarted_operator_shrinks_nothing_at_its_first_look() -> None:
    pool = Pool(replicas=9)
    assert pool.look(healthy(500)) == 9
    assert pool.run(healthy(500), 10)[-1] == 1


def test_a_broken_signal_counts_as_needing_what_there_is_so_that_its_return_shrinks_nothing_at_once() -> None:
    pool = Pool(replicas=9, autoscaling={"cooldownSeconds": 0})
    assert pool.run(lost(), 60) == [9] * 30
    assert pool.look(healthy(500)) == 9
    assert pool.run(healthy(500), 10)[-1] == 1


def test_work_that_only_waits_for_a_limit_keeps_no_worker() -> None:
    pool = Pool(replicas=1, autoscaling={"cooldownSeconds": 10})
    assert pool.run(healthy(0, throttled=5000), 12)[-1] == 0


class Fleet:
    """A pool with a latency target over workers that really do work: one thread each, `pace` jobs a second.

    Jobs arrive evenly; workers start in `startup` seconds and report every look, as heartbeats would.
    """

    def __init__(self, pace: float = 10.0, startup: float = 4.0, known: bool = False, **policy: Any) -> None:
        self.spec = latency_spec(autoscaling={"cooldownSeconds": 20, **policy})
        self.pace, self.startup, self.now = pace, startup, 1000.0
        self.state = measured(pace) if known else first_state(0, self.now)
        self.born: list[float] = []
        self.waiting, self.arrivals = 0.0, 0.0
        self.history: list[int] = []

    @property
    def ready(self) -> int:
        return sum(self.now - born >= self.startup for born in self.born)

    def look(self, arriving: float) -> Decision:
        self.now += 2.0
        self.waiting += 2.0 * arriving
        fade = 0.5 ** (2.0 / 30.0)
        self.arrivals = self.arrivals * fade + arriving * (1 - fade)
        done = min(self.waiting, 2.0 * self.pace * self.ready)
        self.waiting -= done
        busy = min(self.ready, round(done / 2.0 / self.pace))
        oldest = self.waiting / arriving if arriving else 0.0
        signal = load(round(self.waiting), self.arrivals, oldest, running_bundles=busy, running=busy)
        work = Work(round(done), done / self.pace, 2.0, busy, self.ready) if done else None
        replicas = len(self.born)
        seen = Sample(signal, replicas, self.ready, replicas - self.ready, (), work)
        decision = decide(seen, self.spec, self.state, self.now)
        self.state = remember(self.state, seen, self.spec, decision)
        while len(self.born) > decision.after:
            self.born.pop()
        while len(self.born) < decision.after:
            self.born.append(self.now)
        self.history.append(decision.after)
        return decision

    def run(self, arriving: float, seconds: int) -> list[int]:
        return [self.look(arriving).after for _ in range(seconds // 2)]


def test_an_unmeasured_pool_starts_with_one_and_knows_its_way_once_that_one_reports() -> None:
    fleet = Fleet()
    assert fleet.run(100.0, 6) == [1, 1, 20]
    fleet.run(100.0, 60)
    assert fleet.look(100.0).throughput_per_replica == pytest.approx(10.0)
    fleet.run(100.0, 120)
    assert fleet.waiting < 100
    assert 10 <= len(fleet.born) <= 20


def test_a_measured_pool_jumps_to_what_a_burst_needs_and_asks_for_no_more_while_it_starts() -> None:
    fleet = Fleet(known=True, startup=10.0)
    fleet.waiting = 500.0
    first = fleet.look(0.0).after
    # 500 jobs within a quarter of 5 s, but not less than a look: 2 s, at 10 a second.
    assert first == 20
    fleet = Fleet(known=True, startup=10.0, maxReplicas=100)
    fleet.waiting = 500.0
    assert fleet.look(0.0).after == 25
    assert set(fleet.run(0.0, 8)) == {25}


def test_a_constant_load_settles_and_does_not_flap() -> None:
    fleet = Fleet(known=True)
    fleet.run(93.0, 300)
    settled = fleet.run(93.0, 600)
    assert len(set(settled)) == 1
    assert 10 <= settled[0] <= 11


def test_at_partial_load_it_scales_down() -> None:
    fleet = Fleet(known=True)
    fleet.run(100.0, 200)
    assert fleet.run(20.0, 400)[-1] <= 3


def test_it_goes_to_zero_when_nothing_comes_any_more_and_no_sooner_than_the_cooldown() -> None:
    fleet = Fleet(known=True)
    fleet.run(20.0, 60)
    went = fleet.run(0.0, 400)
    assert went[-1] == 0
    assert all(went[:10])


def test_a_trickle_keeps_its_worker() -> None:
    fleet = Fleet(known=True)
    for _ in range(60):
        fleet.look(0.5)
        fleet.look(0.0)
    assert set(fleet.history[5:]) == {1}


def test_an_import_pool_with_long_jobs_running_and_none_waiting_does_not_grow() -> None:
    pool = latency_spec(worker={"threads": 5})
    busy = replace(load(0, 0.001, running=5, running_bundles=5), in_flight=5)
    for state in (State(), measured(0.001)):
        assert decide(sample(busy, 1), pool, state, 1000.0).after == 1


def test_long_jobs_that_have_not_ended_do_not_make_the_pool_look_slow() -> None:
    state = measured(0.1)
    seen = replace(sample(load(0, 0.0, running=9, running_bundles=9), 9), work=Work(0, 0.0, 5.0, 9, 9))
    assert decide(seen, latency_spec(), state, 1000.0).throughput_per_replica == pytest.approx(0.1)


def test_queues_with_targets_of_their_own_add_up() -> None:
    pool = latency_spec(
        autoscaling={"target": {"latencySeconds": 60, "queues": [{"name": "priority-high", "latencySeconds": 10}]}}
    )
    queues = (QueueLoad("priority-high", 100, 10.0), QueueLoad("retry", 550, 0.0))
    signal = Signal(Source.REDIS, ready=650, queues=queues)
    # 10/s + 100 within 5 s + 550 within 55 s, at 10 a second (a start-up is guessed at 5 s).
    decision = decide(sample(signal), pool, measured(), 1000.0)
    assert decision.after == 4
    assert decision.message == "0 -> 4: (10/s arriving + 650 waiting within 5 s) / 10/s per worker = 4"


def test_a_single_job_is_told_as_one() -> None:
    assert decided(sample(healthy(1))).message == "0 -> 1: 1 job / 500 per worker = 1"
    pool = spec(autoscaling={"activationBacklog": 5})
    assert "only 1 job waits, activationBacklog is 5" in decide(sample(healthy(1)), pool, State(), 1000.0).message


def test_rates_are_told_in_digits_however_many() -> None:
    queues = (QueueLoad("campaign-standard", 30_000, 1_034.0),)
    decision = decide(sample(Signal(Source.REDIS, ready=30_000, queues=queues)), latency_spec(), measured(), 1000.0)
    assert "(1,034/s arriving + 30,000 waiting within " in decision.message
    assert [number(999.6), number(0.0123), number(-1234.5, ",")] == ["1000", "0.0123", "-1,234"]


def test_few_busy_threads_promise_no_more_than_a_full_pool_has_shown() -> None:
    state = State()
    # The first interval was full only at its end.
    for busy, pace in ((8, 1.0), (8, 4.0), (1, 20.0)):
        work = Work(round(pace * busy * 5), 5.0 * busy, 5.0, busy, 8)
        seen = replace(sample(load(10, 1.0), 1), work=work)
        pool = latency_spec(worker={"threads": 8})
        state = remember(state, seen, pool, decide(seen, pool, state, 1000.0))
    assert state.throughput.per_thread() == pytest.approx(4.0)
    assert isinstance(state.throughput, Throughput)
