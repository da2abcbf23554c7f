"""What `spec.autoscaling` may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.spec import parse_pool
from unit.operator.building import manifest, problems

AUTOSCALING = "JobPool email: spec.autoscaling"
CRON = "is not a cron expression, give five fields: minute hour day month weekday"


def scheduled(**fields: Any) -> dict[str, Any]:
    return {"schedules": [{"cron": "0 8 * * 1-5", "durationMinutes": 60, "minReplicas": 2, **fields}]}


@pytest.mark.parametrize(
    ("autoscaling", "line"),
    [
        pytest.param(
            {"target": {}}, ".target: give exactly one of latencySeconds and backlogPerReplica", id="no target"
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "backlogPerReplica": 5}},
            ".target: give exactly one of latencySeconds and backlogPerReplica",
            id="two targets",
        ),
        pytest.param(
            {"target": {"backlogPerReplica": 5, "queues": [{"name": "retry", "latencySeconds": 1}]}},
            ".target: target.queues needs target.latencySeconds: a backlog is not counted by queue",
            id="a queue's latency beside a backlog",
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "queues": [{"name": "other", "latencySeconds": 1}]}},
            ".target.queues: other: target.queues may name only queues of spec.queues",
            id="a queue of another pool",
        ),
        pytest.param(
            {"shadow": {"target": {"latencySeconds": 5, "queues": [{"name": "other", "latencySeconds": 1}]}}},
            ".shadow.target.queues: other: in the shadow too, target.queues may name only queues of spec.queues",
            id="a queue of another pool in the shadow",
        ),
        pytest.param(
            {"target": {"latencySeconds": 5, "queues": [{"name": "retry", "latencySeconds": n} for n in (1, 2)]}},
            ".target: each queue may have one target",
            id="a queue twice",
        ),
        pytest.param(
            {"shadow": {"minReplicas": 30}},
            ".shadow: minReplicas must not exceed maxReplicas, in the shadow neither: 30 > 20",
            id="the shadow's min above the pool's max",
        ),
        pytest.param(
            {"scaleUp": {"policies": [{"type": "Pod", "value": 4, "periodSeconds": 15}]}},
            ".scaleUp.policies[0].type: 'Pod' is not one of Pods, Percent",
            id="kind of policy",
        ),
        pytest.param(
            {"scaleDown": {"policies": [{"type": "Pods", "value": 4, "periodSeconds": 3600}]}},
            ".scaleDown.policies[0].periodSeconds: 3600 is out of range, give 1 to 1800",
            id="long period",
        ),
        pytest.param(
            {"scaleDown": {"stabilizationWindowSeconds": 3601}},
            ".scaleDown.stabilizationWindowSeconds: 3601 is out of range, give 0 to 3600",
            id="long window",
        ),
        pytest.param({"tolerance": 0.1}, ".tolerance: must be text (quote it), not 0.1", id="an unquoted tolerance"),
        pytest.param(
            {"tolerance": "1"},
            """.tolerance: '1' is not a fraction below 1, give one like "0.1" (quote it)""",
            id="tolerance",
        ),
        pytest.param(scheduled(cron="0 8 * *"), f".schedules[0].cron: '0 8 * *' {CRON}", id="four fields"),
        pytest.param(scheduled(cron="0 0 8 * * *"), f".schedules[0].cron: '0 0 8 * * *' {CRON}", id="six fields"),
        pytest.param(scheduled(cron="0 25 * * *"), f".schedules[0].cron: '0 25 * * *' {CRON} (Bad hour)", id="hour 25"),
        pytest.param(scheduled(cron=""), ".schedules[0].cron: is empty, give it a value", id="no cron"),
        pytest.param(
            scheduled(timezone="Berlin"),
            ".schedules[0].timezone: 'Berlin' is not a time zone, give an IANA name such as Europe/Berlin",
            id="time zone",
        ),
        pytest.param(
            scheduled(timezone="../etc/passwd"),
            ".schedules[0].timezone: '../etc/passwd' is not a time zone, give an IANA name such as Europe/Berlin",
            id="a path as time zone",
        ),
        pytest.param(
            scheduled(durationMinutes=0),
            ".schedules[0].durationMinutes: 0 is out of range, give 1 to 10080",
            id="no time",
        ),
    ],
)
def test_a_mistake_in_the_policy_is_one_line_too(autoscaling: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(autoscaling=autoscaling)) == [AUTOSCALING + line]


def test_a_queue_s_own_target_comes_before_the_pool_s() -> None:
    given = {"latencySeconds": 60, "queues": [{"name": "priority-high", "latencySeconds": 2}]}
    target = parse_pool(manifest(autoscaling={"target": given})).spec.autoscaling.target
    assert [target.latency_for(queue) for queue in ("priority-high", "retry")] == [2, 60]


def test_a_shadow_is_the_pool_with_another_policy() -> None:
    shadow = {"target": {"latencySeconds": 2}, "maxReplicas": 50, "scaleDown": {"selectPolicy": "Disabled"}}
    given = {"target": {"latencySeconds": 9}, "minReplicas": 1, "cooldownSeconds": 7, "shadow": shadow}
    spec = parse_pool(manifest(autoscaling=given)).spec
    other = spec.shadow_spec()
    assert other is not None
    assert (other.queues, other.worker, other.autoscaling.shadow) == (spec.queues, spec.worker, None)
    assert other.autoscaling.target.latency_seconds == 2
    assert (other.autoscaling.min_replicas, other.autoscaling.max_replicas) == (1, 50)
    assert (other.autoscaling.cooldown_seconds, other.autoscaling.scale_down.select_policy) == (7, "Disabled")
    assert parse_pool(manifest()).spec.shadow_spec() is None
