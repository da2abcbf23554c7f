"""The status that the operator writes is the status of the CRDs."""

from __future__ import annotations

import re
from typing import Any

import pytest

from contract.crd_schema import schema
from postfleet_operator import reasons
from postfleet_operator.cluster import Workload
from postfleet_operator.conditions import Facts as PoolFacts
from postfleet_operator.conditions import Problem
from postfleet_operator.node_conditions import NodeFacts
from postfleet_operator.node_status import compose as compose_node
from postfleet_operator.reachability import Reach
from postfleet_operator.scaling.decide import decide, first_state
from postfleet_operator.scaling.shadow import step
from postfleet_operator.scaling.values import QueueLoad, Sample, Signal, Source
from postfleet_operator.slowdowns import Slowdown
from postfleet_operator.spec import JobPool, parse_node, parse_pool
from postfleet_operator.spec.warmup import WarmupDay
from postfleet_operator.status import compose
from refused import MINIMAL, manifest


def conforms(node: dict[str, Any], value: Any, path: str = "status") -> None:
    match node["type"]:
        case "object":
            assert set(value) <= node["properties"].keys(), (
                f"{path}: {set(value) - node['properties'].keys()} would be pruned"
            )
            assert set(node.get("required", [])) <= set(value), path
            for name, item in value.items():
                conforms(node["properties"][name], item, f"{path}.{name}")
        case "array":
            for item in value:
                conforms(node["items"], item, f"{path}[]")
        case "integer":
            assert type(value) is int, path
        case "number":
            assert type(value) in {int, float}, path
        case "string":
            assert type(value) is str, path
            assert value in node.get("enum", [value]), path
            if node.get("format") == "date-time":
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", value), path


def pool_facts(source: Source) -> tuple[JobPool, PoolFacts]:
    """A pool about which all is known, and its shadow's."""
    autoscaling = {"shadow": {"target": {"backlogPerReplica": 10}}}
    given = manifest("JobPool", {"spec": {**MINIMAL["JobPool"], "autoscaling": autoscaling}})
    pool = parse_pool({**given, "metadata": {"name": "x", "creationTimestamp": "2026-01-01T00:00:00Z"}})
    shadow_spec = pool.spec.shadow_spec()
    assert shadow_spec is not None
    signal = Signal(
        source,
        "why",
        ready=12_000,
        throttled=3,
        throttled_by={"tenant a": 3},
        oldest_seconds=1.6,
        permitted_per_second=5.5,
        queues=(QueueLoad("a", 12_000, 3.25, 1.6),),
    )
    sample = Sample(signal, replicas=2, ready=1, starting=1)
    state = first_state(2, 0.0, throughput_per_replica=38.2, startup_seconds=4.2, threads=64)
    decision = decide(sample, pool.spec, state, 5.0)
    facts = PoolFacts(
        1,
        pool.spec,
        Workload(True, 2, 1, 2),
        signal,
        decision,
        shadow=step(None, sample, shadow_spec, state, 5.0),
        taken={"a": "default/older"},
    )
    return pool, facts


@pytest.mark.parametrize("source", list(Source))
def test_the_status_of_a_pool_that_is_written_is_the_status_of_the_crd(source: Source) -> None:
    pool, facts = pool_facts(source)
    status = compose(pool, {}, facts, 5.0)
    conforms(schema("JobPool")["properties"]["status"], status)
    if source is Source.REDIS:
        assert set(status) == schema("JobPool")["properties"]["status"]["properties"].keys()
        assert {condition["type"] for condition in status["conditions"]} == set(reasons.ConditionType)


def test_the_status_of_a_node_that_is_written_is_the_status_of_the_crd() -> None:
    limited = {**MINIMAL["SendingNode"], "limits": {"perDay": 100}, "warmup": {"startDate": "2026-01-01"}}
    node = parse_node(manifest("SendingNode", {"spec": limited}))
    problem = Problem(reasons.Reason.POOL_MISSING, "there is no such pool")
    reach = Reach(False, reasons.Reason.NO_ANSWER, "it does not answer")
    facts = NodeFacts(
        1,
        node.spec,
        mirrored=True,
        pool=problem,
        reach=reach,
        accepted=7,
        warmup=WarmupDay(3, 84),
        slowdowns=(
            Slowdown("gmail", "per_minute", 10, "gmail.rate", "421 4.7.28 unusual rate", 3600.0),
            Slowdown("yahoo", "suspend", None, "yahoo.complaints", "421 [TSS04]", 7200.0),
        ),
        workers=pool_facts(Source.REDIS)[1],
        deployment="email-x",
    )
    status = compose_node(facts, {}, 5.0)
    conforms(schema("SendingNode")["properties"]["status"], status)
    assert set(status) == schema("SendingNode")["properties"]["status"]["properties"].keys()
    assert {condition["type"] for condition in status["conditions"]} == set(reasons.NodeConditionType)


def test_a_node_s_last_decision_is_told_as_a_pool_s() -> None:
    node = schema("SendingNode")["properties"]["status"]["properties"]["workers"]["properties"]["lastDecision"]
    pool = schema("JobPool")["properties"]["status"]["properties"]["lastDecision"]
    assert node["properties"] == pool["properties"]
