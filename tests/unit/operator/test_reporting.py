"""Events: one for what turns, none for what flaps; and whose they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.reasons import DecisionReason, EventReason, Reason
from postfleet_operator.reporting import BOTTLENECKS, ORDINARY, SAME_SECONDS, Report, report
from postfleet_operator.scaling.decide import decide
from postfleet_operator.scaling.values import Bottleneck, Clamp, Decision, Signal
from postfleet_operator.spec import parse_node
from postfleet_operator.workerset import WorkerSet
from unit.operator.building import healthy, latency_spec, load, lost, measured, node_manifest, pool, sample, workers


class Telling:
    """Looks at a pool again and again, two seconds apart, and collects what is told."""

    def __init__(self, about: WorkerSet | None = None) -> None:
        self.cluster = MemoryCluster()
        self.workers = workers() if about is None else about
        self.last, self.now = Report(), 1000.0

    def see(self, facts: Facts, seconds: float = 2.0) -> None:
        report(self.cluster, self.workers, facts, self.last, self.now)
        self.now += seconds

    def events(self) -> list[str]:
        return [event.reason.value for event in self.cluster.events]

    def words(self, reason: EventReason) -> list[str]:
        return [event.message for event in self.cluster.events if event.reason is reason]


def facts(signal: Signal | None = None, made: Decision | None = None, **more: Any) -> Facts:
    return Facts(1, pool().spec, Workload(True, 2, 2, 2), signal or healthy(), made, **more)


def steady(**fields: Any) -> Decision:
    """A decision that leaves two workers as they are."""
    made = decide(sample(healthy(900), 2), pool().spec, measured(), 1000.0)
    return replace(made, **{"after": 2, "recommended": 2, "clamps": (), "bottleneck": Bottleneck.NONE, **fields})


def held(name: DecisionReason, wanted: int = 7, until: float | None = None) -> Decision:
    return steady(clamps=(Clamp(name, wanted, 2, "of a reason", until),), recommended=wanted, reason=name)


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [(0, 3, "ScaledFromZero"), (1, 3, "ScaledUp"), (3, 1, "ScaledDown"), (3, 0, "ScaledToZero")],
)
def test_every_change_is_told_in_the_decision_s_words(before: int, after: int, reason: str) -> None:
    telling = Telling()
    telling.see(facts(made=steady(before=before, after=after, recommended=after, message="why")))
    assert [(event.reason, event.message) for event in telling.cluster.events] == [(reason, "why")]


def test_what_is_only_recommended_is_no_change() -> None:
    telling = Telling(workers(mode="Recommend"))
    telling.see(facts(made=steady(before=2, after=5, recommended=5)))
    assert telling.events() == []


def test_a_change_that_is_held_back_tells_what_was_wanted_by_which_rule_and_until_when() -> None:
    telling = Telling()
    telling.see(facts(made=held(DecisionReason.COOLDOWN, wanted=0, until=1060.0)))
    words = "Cooldown holds 2 instead of 0: of a reason, until 1970-01-01T00:17:40Z"
    assert telling.words(EventReason.SCALING_HELD) == [words]


def test_a_rule_that_holds_on_and_off_is_told_once_in_ten_minutes() -> None:
    telling = Telling()
    for _ in range(int(SAME_SECONDS) // 4):
        telling.see(facts(made=held(DecisionReason.MAX_REPLICAS)))
        telling.see(facts(made=steady()))
    assert telling.events() == ["ScalingHeld"]
    telling.see(facts(made=held(DecisionReason.MAX_REPLICAS)))
    assert telling.events() == ["ScalingHeld"] * 2


def test_a_rule_that_holds_for_hours_is_told_once_and_another_rule_too() -> None:
    telling = Telling()
    for _ in range(10):
        telling.see(facts(made=held(DecisionReason.MAX_REPLICAS)), seconds=SAME_SECONDS)
    telling.see(facts(made=held(DecisionReason.UNSCHEDULABLE)))
    assert telling.events() == ["ScalingHeld"] * 2
    assert [event.type for event in telling.cluster.events] == ["Warning"] * 2


@pytest.mark.parametrize("name", sorted(ORDINARY))
def test_rules_of_every_day_are_not_told(name: DecisionReason) -> None:
    telling = Telling()
    telling.see(facts(made=held(name)))
    assert telling.events() == []


def test_a_signal_that_flaps_is_told_once_in_ten_minutes_and_what_lasts_is_told() -> None:
    telling = Telling()
    for _ in range(100):
        telling.see(facts(healthy()))
        telling.see(facts(lost()))
    assert telling.events() == ["SignalLost", "SignalRestored"]
    telling.see(facts(lost()), seconds=SAME_SECONDS)
    telling.see(facts(lost()))
    telling.see(facts(healthy()))
    assert telling.events() == ["SignalLost", "SignalRestored"] * 2


def test_a_signal_that_was_never_there_was_not_lost() -> None:
    telling = Telling()
    telling.see(facts(lost()))
    telling.see(facts(healthy()))
    assert telling.events() == []


def test_faults_are_told_once_whatever_the_words_of_a_server_that_is_away() -> None:
    telling = Telling()
    for number in range(20):
        telling.see(facts(problem=Problem(Reason.CLUSTER_UNAVAILABLE, f"refused, request {number}")))
        telling.see(facts(made=steady()))
    assert telling.events() == ["ApplyFailed"]
    for image in ("a", "b", "a"):
        telling.see(facts(problem=Problem(Reason.REJECTED, f"image {image} is invalid")))
    assert telling.words(EventReason.APPLY_FAILED)[1:] == ["image a is invalid", "image b is invalid"]


def late(seconds: float) -> Facts:
    policy = latency_spec(5)
    signal = load(10, oldest=seconds)
    return Facts(1, policy, Workload(True, 2, 2, 2), signal, steady())


def test_a_target_that_is_missed_for_half_a_minute_is_told_and_that_it_is_met_again() -> None:
    telling = Telling()
    for _ in range(15):
        telling.see(late(9.0))
    assert telling.events() == []
    telling.see(late(9.0))
    assert telling.words(EventReason.LATENCY_MISSED) == [
        "jobs wait longer than the target: priority-high: 9 s instead of 5"
    ]
    for _ in range(16):
        telling.see(late(1.0))
    assert telling.events() == ["LatencyMissed", "LatencyMet"]
    for _ in range(100):
        telling.see(late(9.0))
        telling.see(late(1.0))
    assert telling.events() == ["LatencyMissed", "LatencyMet"]


def test_a_bottleneck_that_lasts_is_told_with_the_limit_that_binds() -> None:
    telling = Telling()
    signal = healthy(0, throttled=400, throttled_by={"node acme-1 perMinute": 390, "tenant a per_day": 10})
    throttled = facts(signal, steady(bottleneck=Bottleneck.THROTTLE))
    for _ in range(16):
        telling.see(throttled)
    [words] = telling.words(EventReason.BOTTLENECK_CHANGED)
    assert words.startswith("None -> Throttle: limits or pauses hold the rest, another worker would not help; ")
    assert words.endswith("; most jobs wait for node acme-1 perMinute")
    for _ in range(16):
        telling.see(facts(made=steady()))
    assert telling.words(EventReason.BOTTLENECK_CHANGED)[1:] == [
        "Throttle -> None: nothing keeps the backlog from shrinking"
    ]


def test_a_bottleneck_that_turns_all_the_time_is_not_told() -> None:
    telling = Telling()
    for _ in range(100):
        for bottleneck in Bottleneck:
            telling.see(facts(made=steady(bottleneck=bottleneck)))
    assert telling.events() == []
    assert BOTTLENECKS.keys() == set(Bottleneck) - {Bottleneck.SIGNAL}


def test_a_pool_that_flaps_in_every_way_for_an_hour_tells_few_events() -> None:
    telling = Telling()
    for number in range(1800):
        if number % 2:
            telling.see(facts(lost(), held(list(DecisionReason)[number % len(DecisionReason)])))
        else:
            telling.see(late(9.0 * (number % 3)))
    assert len(telling.events()) < 6 * (len(DecisionReason) + 2)


def test_a_dedicated_node_s_workers_are_told_of_at_the_node_whose_status_is_not_written_here() -> None:
    given = node_manifest(workers={"poolRef": {"name": "email"}, "placement": "Dedicated"})
    telling = Telling(WorkerSet(pool(), parse_node(given)))
    telling.see(facts(made=steady(before=1, after=2)))
    [event] = telling.cluster.events
    assert (event.resource, event.reason) == ("default/acme-1", "ScaledUp")
    assert [call for call, _ in telling.cluster.calls if call == "patch_status"] == []
