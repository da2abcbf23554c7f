"""The status of a node, what is worth writing of it, and which Events it calls for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts, Problem
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.node_conditions import NodeFacts
from postfleet_operator.node_reporting import EVENT_SECONDS, NodeReport, report
from postfleet_operator.node_status import NUMBERS_SECONDS, compose, worth_writing
from postfleet_operator.reachability import Reach
from postfleet_operator.reasons import DecisionReason, Reason
from postfleet_operator.scaling.values import Bottleneck, Decision
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import parse_node
from postfleet_operator.spec.warmup import WarmupDay
from unit.operator.building import node_manifest

NODE = parse_node(node_manifest(limits={"perDay": 100}))
FACTS = NodeFacts(1, NODE.spec, mirrored=True, reach=Reach(True, Reason.MAIL_TAKEN, "it took mail"), accepted=40)
SILENT = Reach(False, Reason.NO_ANSWER, "it is silent")


def decision(after: int = 2, before: int = 0) -> Decision:
    return Decision(5.0, before, after, after, DecisionReason.BACKLOG, "why", {"startupSeconds": 3.0})


def test_a_status_tells_what_the_day_has_left() -> None:
    status = compose(FACTS, {}, 0.0)
    assert status["phase"] == "Active"
    assert (status["acceptedToday"], status["capToday"], status["remainingToday"]) == (40, 100, 60)
    assert compose(replace(FACTS, accepted=130), status, 0.0)["remainingToday"] == 0
    assert "workers" not in status


def test_a_number_that_is_not_known_stays_and_a_cap_that_is_gone_goes() -> None:
    status = compose(replace(FACTS, accepted=None), compose(FACTS, {}, 0.0), 0.0)
    assert (status["acceptedToday"], status["remainingToday"]) == (40, 60)
    unlimited = compose(replace(FACTS, spec=parse_node(node_manifest()).spec), status, 0.0)
    assert unlimited["acceptedToday"] == 40
    assert not {"capToday", "remainingToday"} & unlimited.keys()


def test_a_node_stays_blocked_for_as_long_as_postgresql_is_away() -> None:
    lost = replace(FACTS, mirrored=False, database=Problem(Reason.DATABASE_UNAVAILABLE, "PostgreSQL: gone"))
    first = compose(lost, compose(FACTS, {}, 0.0), 1.0)
    assert (first["phase"], first["conditions"][0]["status"]) == ("Blocked", "False")
    assert compose(lost, first, 2.0)["phase"] == "Blocked"
    assert compose(lost, {}, 1.0)["phase"] == "Pending"
    assert compose(FACTS, first, 3.0)["phase"] == "Active"


def test_a_dedicated_node_tells_of_its_workers_until_it_is_shared_again() -> None:
    workload = Workload(exists=True, replicas=2, ready=1, present=2)
    facts = replace(FACTS, workers=Facts(1, workload=workload, decision=decision()), deployment="email-acme-1")
    own = compose(facts, {}, 0.0)["workers"]
    assert own["lastDecision"]["inputs"] == {"startupSeconds": 3.0}
    del own["lastDecision"]
    assert own == {
        "deployment": "email-acme-1", "desiredReplicas": 2, "replicas": 2, "readyReplicas": 1, "bottleneck": "None",
    }  # fmt: skip
    before = compose(facts, {}, 0.0)
    later = replace(facts, workers=Facts(1, workload=workload, decision=decision(2, 2)))
    assert compose(later, before, 9.0)["workers"]["lastDecision"] == before["workers"]["lastDecision"]
    assert "workers" not in compose(FACTS, before, 9.0)


@pytest.mark.parametrize(
    ("change", "at_once"),
    [
        pytest.param({"accepted": 41}, False, id="a number"),
        pytest.param({"reach": Reach(True, Reason.MAIL_TAKEN, "again")}, False, id="a wording"),
        pytest.param({"reach": SILENT}, True, id="a condition"),
        pytest.param({"generation": 2}, True, id="a generation"),
        pytest.param({"deployment": "email-acme-1"}, True, id="workers"),
    ],
)
def test_what_matters_is_written_at_once_and_numbers_now_and_then(change: dict[str, Any], at_once: bool) -> None:
    written = compose(FACTS, {}, 0.0)
    status = compose(replace(FACTS, **change), written, 0.0)
    assert worth_writing(written, status, 1.0) is at_once
    assert worth_writing(written, status, NUMBERS_SECONDS)
    assert not worth_writing(written, written, NUMBERS_SECONDS)


def test_that_a_number_is_known_is_written_at_once() -> None:
    written = compose(replace(FACTS, accepted=None), {}, 0.0)
    assert worth_writing(written, compose(FACTS, written, 0.0), 1.0)


def test_a_bottleneck_alone_is_a_number_too() -> None:
    facts = replace(FACTS, workers=Facts(1, decision=decision(2, 2)), deployment="email-acme-1")
    written = compose(facts, {}, 0.0)
    busier = replace(decision(2, 2), bottleneck=Bottleneck.WORKERS)
    assert not worth_writing(written, compose(replace(facts, workers=Facts(1, decision=busier)), written, 0.0), 1.0)


def test_events_are_told_when_a_condition_turns_and_of_a_flapping_one_rarely() -> None:
    cluster, last = MemoryCluster(), NodeReport()
    bad = replace(FACTS, reach=SILENT)

    def look(facts: NodeFacts, now: float) -> list[str]:
        known = len(cluster.events)
        report(cluster, NODE, facts, last, now)
        return [event.reason.value for event in cluster.events[known:]]

    assert look(FACTS, 0.0) == []
    assert look(bad, 1.0) == ["Unreachable"]
    assert look(bad, 2.0) == []
    assert look(FACTS, 3.0) == ["NodeReady"]
    assert look(bad, 4.0) == []
    assert look(FACTS, 5.0) == []
    assert look(bad, EVENT_SECONDS + 4.0) == ["Unreachable"]


def test_a_restarted_operator_does_not_repeat_what_it_had_said() -> None:
    cluster = MemoryCluster()
    bad = replace(FACTS, pool=Problem(Reason.POOL_MISSING, "no pool"))
    report(cluster, NODE, bad, NodeReport(), 0.0)
    again = replace(NODE, status=cluster.status("default/acme-1", "SendingNode"))
    report(cluster, again, bad, NodeReport(), 60.0)
    assert [event.reason.value for event in cluster.events] == ["PoolMissing"]
    assert [call for call, _ in cluster.calls] == ["patch_status"]


RATE = Slowdown("gmail", "per_minute", 10, "gmail.rate", "421 4.7.28 unusual rate", 600.0)
SUSPENDED = Slowdown("yahoo", "suspend", None, "yahoo.complaints", "421 [TSS04]", 7200.0)


def test_a_warmup_caps_the_day_where_it_is_less_than_the_limit() -> None:
    status = compose(replace(FACTS, warmup=WarmupDay(2, 65)), {}, 0.0)
    assert (status["phase"], status["warmupDay"]) == ("Warming", 2)
    assert (status["capToday"], status["remainingToday"]) == (65, 25)
    later = compose(replace(FACTS, warmup=WarmupDay(9, 400)), status, 0.0)
    assert (later["warmupDay"], later["capToday"]) == (9, 100)
    over = compose(FACTS, later, 0.0)
    assert (over["phase"], over["capToday"]) == ("Active", 100)
    assert "warmupDay" not in over


def test_slow_downs_are_told_while_they_hold() -> None:
    status = compose(replace(FACTS, slowdowns=(RATE, SUSPENDED)), {}, 0.0)
    assert status["slowdowns"] == [
        {"site": "gmail", "action": "per_minute", "value": 10, "until": "1970-01-01T00:10:00Z", "rule": "gmail.rate",
         "reply": "421 4.7.28 unusual rate"},
        {"site": "yahoo", "action": "suspend", "until": "1970-01-01T02:00:00Z", "rule": "yahoo.complaints",
         "reply": "421 [TSS04]"},
    ]  # fmt: skip
    assert [each["site"] for each in compose(FACTS, status, 700.0)["slowdowns"]] == ["yahoo"]
    assert "slowdowns" not in compose(replace(FACTS, slowdowns=()), status, 0.0)


def test_a_slow_down_that_only_lasts_longer_is_not_written_at_once() -> None:
    written = compose(replace(FACTS, slowdowns=(RATE,)), {}, 0.0)
    longer = compose(replace(FACTS, slowdowns=(replace(RATE, until=900.0, reply="421 again"),)), written, 1.0)
    harder = compose(replace(FACTS, slowdowns=(replace(RATE, value=1),)), written, 1.0)
    assert not worth_writing(written, longer, 1.0)
    assert worth_writing(written, longer, NUMBERS_SECONDS)
    assert worth_writing(written, harder, 1.0)


def test_a_slow_down_that_begins_is_an_event_once() -> None:
    cluster, last = MemoryCluster(), NodeReport()
    cluster.put(node_manifest(limits={"perDay": 100}))
    report(cluster, NODE, FACTS, last, 0.0)
    for seconds, slow in ((1.0, (RATE,)), (2.0, (replace(RATE, until=900.0),)), (EVENT_SECONDS + 1, (RATE, SUSPENDED))):
        slow = tuple(replace(each, until=each.until + 10_000.0) for each in slow)
        report(cluster, NODE, replace(FACTS, slowdowns=slow), last, seconds)
    told = [event.message for event in cluster.events if event.reason == "SlowedDown"]
    assert told == [
        "at most 10 mails a minute to gmail until 1970-01-01T02:56:40Z, by rule gmail.rate: 421 4.7.28 unusual rate",
        "no mail to yahoo until 1970-01-01T04:46:40Z, by rule yahoo.complaints: 421 [TSS04]",
    ]
