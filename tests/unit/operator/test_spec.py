"""What the manifest of a pool may say, and how a mistake in it is told."""

from __future__ import annotations

from typing import Any

import pytest

from postfleet_operator.spec import Mode, parse_pool
from unit.operator.building import manifest, problems

WORKER = "JobPool email: spec.worker"
QUEUE = "is not a queue name, give lower-case letters, digits, '-' and '.', beginning with a letter"


@pytest.mark.parametrize(
    ("spec", "line"),
    [
        pytest.param(
            {"worker": {"threads": 500}}, f"{WORKER}.threads: 500 is out of range, give 1 to 256", id="too many"
        ),
        pytest.param({"worker": {"threads": 0}}, f"{WORKER}.threads: 0 is out of range, give 1 to 256", id="too few"),
        pytest.param(
            {"worker": {"thread": 5}}, f"{WORKER}.thread: unknown field, did you mean threads?", id="misspelt"
        ),
        pytest.param(
            {"worker": {"shutdown_timeout_seconds": 5}},
            f"{WORKER}.shutdown_timeout_seconds: unknown field, did you mean shutdownTimeoutSeconds?",
            id="snake case",
        ),
        pytest.param(
            {"colour": "red"},
            "JobPool email: spec.colour: unknown field; "
            "known here are queues, worker, mode, paused, replicas, autoscaling, podTemplate",
            id="nothing near",
        ),
        pytest.param(
            {"queues": ["a", "b", "a"]},
            "JobPool email: spec.queues: queues must differ from each other: a is listed more than once",
            id="duplicate queues",
        ),
        pytest.param({"queues": []}, "JobPool email: spec.queues: is empty, give at least 1 entry", id="no queues"),
        pytest.param({"queues": None}, "JobPool email: spec.queues: is missing, give it a value", id="null queues"),
        pytest.param({"queues": "a"}, "JobPool email: spec.queues: must be a list, not 'a'", id="one queue as text"),
        pytest.param({"queues": ["A b"]}, f"JobPool email: spec.queues[0]: 'A b' {QUEUE}", id="bad queue name"),
        pytest.param(
            {"queues": ["q" * 64]},
            "JobPool email: spec.queues[0]: has 64 characters, at most 63 are allowed",
            id="long queue name",
        ),
        pytest.param(
            {"queues": [f"q{n}" for n in range(17)]},
            "JobPool email: spec.queues: has 17 entries, at most 16 are allowed",
            id="many queues",
        ),
        pytest.param(
            {"queues": ["a.msgs"]},
            "JobPool email: spec.queues: a.msgs: a queue may not end in .msgs: "
            "Dramatiq keeps the messages of a queue under that name",
            id="Dramatiq's own name",
        ),
        pytest.param(
            {"mode": "auto"},
            "JobPool email: spec.mode: 'auto' is not one of Auto, Recommend, Manual, External",
            id="bad mode",
        ),
        pytest.param(
            {"paused": "yes"}, "JobPool email: spec.paused: must be true or false, not 'yes'", id="text as bool"
        ),
        pytest.param(
            {"replicas": "3"}, "JobPool email: spec.replicas: must be a whole number, not '3'", id="text as number"
        ),
        pytest.param(
            {"replicas": 1.5}, "JobPool email: spec.replicas: must be a whole number, not 1.5", id="half a worker"
        ),
        pytest.param({"replicas": True}, "JobPool email: spec.replicas: must be a whole number, not true", id="a bool"),
        pytest.param(
            {"replicas": -1}, "JobPool email: spec.replicas: -1 is out of range, give 0 to 1000", id="negative"
        ),
        pytest.param({"worker": 5}, f"{WORKER}: must be a mapping of fields, not 5", id="no mapping"),
        pytest.param(
            {"autoscaling": {"minReplicas": 5, "maxReplicas": 2}},
            "JobPool email: spec.autoscaling: minReplicas must not exceed maxReplicas: 5 > 2",
            id="min above max",
        ),
        pytest.param(
            {"autoscaling": {"minReplicas": 21}},
            "JobPool email: spec.autoscaling: minReplicas must not exceed maxReplicas: 21 > 20",
            id="min above the default max",
        ),
        pytest.param(
            {"worker": {"resources": {"limits": {"cpu": 1.5}}}},
            f'{WORKER}.resources.limits.cpu: 1.5 is not a quantity, give one like 2, "500m" or "1Gi"',
            id="unquoted quantity",
        ),
        pytest.param(
            {"worker": {"env": [{"name": "1A"}]}},
            f"{WORKER}.env[0].name: '1A' is not the name of an environment variable, "
            "give letters, digits, '_', '-' and '.', no digit first",
            id="bad variable",
        ),
    ],
)
def test_a_mistake_is_one_line_with_field_value_and_remedy(spec: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest(**spec)) == [line]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        pytest.param(
            {"apiVersion": "v1"}, "JobPool email: apiVersion: 'v1' is not known, give postfleet.io/v1alpha1", id="v"
        ),
        pytest.param({"kind": "Pool"}, "JobPool email: kind: 'Pool' is not JobPool", id="kind"),
        pytest.param({"metadata": {}}, "JobPool: metadata.name: is missing, give the resource a name", id="no name"),
        pytest.param(
            {"metadata": None}, "JobPool: metadata.name: is missing, give the resource a name", id="no metadata"
        ),
        pytest.param({"spec": None}, "JobPool email: spec: is missing", id="no spec"),
        pytest.param({"spec": []}, "JobPool email: spec: must be a mapping of fields, not []", id="spec is a list"),
        pytest.param(
            {"specs": {}},
            "JobPool email: specs: unknown field; a resource has apiVersion, kind, metadata and spec",
            id="unknown part",
        ),
        *(
            pytest.param(
                {"metadata": {"name": name}},
                f"JobPool {name}: metadata.name must be at most 50 lower-case letters, digits or '-', "
                "not '-' at an end",
                id=f"name {name[:8]}",
            )
            for name in ("Email", "a.b", "-a", "a-", "x" * 51)
        ),
    ],
)
def test_what_surrounds_the_spec_is_checked_too(change: dict[str, Any], line: str) -> None:
    assert problems(parse_pool, manifest() | change) == [line]


def test_every_mistake_is_told_at_once() -> None:
    given = manifest(queues=["A"], worker={"threads": 0, "env": [{"value": "x"}]}, mode="Off") | {"apiVersion": "v0"}
    assert len(problems(parse_pool, given)) == 5


def test_a_minimal_pool_gets_the_documented_defaults() -> None:
    spec = parse_pool({**manifest(), "spec": {"queues": ["a"]}}).spec
    assert (spec.mode, spec.paused, spec.replicas) == (Mode.AUTO, False, 1)
    assert (spec.worker.processes, spec.worker.threads, spec.worker.shutdown_timeout_seconds) == (1, 64, 60)
    assert (spec.autoscaling.min_replicas, spec.autoscaling.max_replicas) == (0, 20)
    assert (spec.autoscaling.polling_interval_seconds, spec.autoscaling.cooldown_seconds) == (2, 60)
    assert (spec.autoscaling.activation_backlog, spec.autoscaling.target.latency_seconds) == (1, 5)
    assert spec.autoscaling.scale_up.stabilization_window_seconds == 0
    assert spec.autoscaling.scale_down.stabilization_window_seconds == 120
    assert (spec.autoscaling.tolerance_fraction, spec.autoscaling.schedules, spec.autoscaling.shadow) == (0.1, (), None)


def test_null_means_absent_as_it_does_for_the_api_server() -> None:
    assert parse_pool(manifest(worker=None, replicas=None, mode=None)) == parse_pool(manifest())


def test_a_pool_from_the_api_keeps_its_identity_and_status() -> None:
    metadata = {"name": "email", "namespace": "mail", "uid": "u-1", "generation": 7, "managedFields": [{}]}
    pool = parse_pool(manifest() | {"metadata": metadata, "status": {"replicas": 2}})
    assert (pool.key, pool.metadata.uid, pool.metadata.generation, pool.status) == (
        "mail/email",
        "u-1",
        7,
        {"replicas": 2},
    )


def test_specs_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        parse_pool(manifest()).spec.replicas = 3  # type: ignore[misc]
