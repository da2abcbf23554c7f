"""The CRDs on a real API server: what it refuses and with which words, what it fills in, and what it shows."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from servers import ControlPlane

from postfleet_operator.deployment import RenderSettings, render
from postfleet_operator.manifests import load
from postfleet_operator.overlay import MERGE_KEYS, REPLACED
from postfleet_operator.spec import API_VERSION, parse_node, parse_pool
from postfleet_operator.workerset import worker_sets
from refused import BROKEN, CRONS, FLOOR, MINIMAL, manifest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = sorted(path.name for path in (ROOT / "examples").iterdir() if path.is_dir())


def apply(plane: ControlPlane, namespace: str, given: dict[str, Any], *options: str) -> dict[str, Any]:
    return json.loads(plane.kubectl("apply", "-f", "-", "-o", "json", *options, namespace=namespace, given=given))


def refusal(plane: ControlPlane, namespace: str, given: dict[str, Any]) -> str:
    """Why a manifest is refused, in one line."""
    with pytest.raises(AssertionError) as caught:
        plane.kubectl("apply", "-f", "-", namespace=namespace, given=given)
    return " ".join(str(caught.value).split())


@pytest.mark.parametrize(("place", "start"), BROKEN)
def test_a_broken_manifest_is_refused_in_the_parser_s_words(
    plane: ControlPlane, namespace: str, place: str, start: str
) -> None:
    kind = place.split(".")[0]
    assert start in refusal(plane, namespace, manifest(kind, BROKEN[place, start]))


@pytest.mark.parametrize("kind", MINIMAL)
def test_a_bad_name_is_told_at_its_field(plane: ControlPlane, namespace: str, kind: str) -> None:
    told = refusal(plane, namespace, manifest(kind, {"metadata": {"name": "x.y"}}))
    assert "metadata.name: Invalid value" in told
    assert "nil" not in told


@pytest.mark.parametrize("zone", ["CEST", "Berlin", "europe/berlin", "Local", "+02:00"])
def test_what_is_no_time_zone_is_told_in_the_parser_s_words_first(
    plane: ControlPlane, namespace: str, zone: str
) -> None:
    floor = {**FLOOR, "timezone": zone}
    given = manifest("JobPool", {"spec": {"queues": ["a"], "autoscaling": {"schedules": [floor]}}})
    told = refusal(plane, namespace, given)
    assert re.search(r'timezone: Invalid value: "[^"]*": not a time zone, give an IANA name', told)


@pytest.mark.parametrize("expression", CRONS)
def test_the_server_tells_what_is_a_cron_expression(plane: ControlPlane, namespace: str, expression: str) -> None:
    floor = {**FLOOR, "cron": expression}
    given = manifest("JobPool", {"spec": {"queues": ["a"], "autoscaling": {"schedules": [floor]}}})
    if CRONS[expression]:
        apply(plane, namespace, given)
    else:
        assert "not a cron expression" in refusal(plane, namespace, given)


def test_a_misspelt_field_is_refused(plane: ControlPlane, namespace: str) -> None:
    given = manifest("JobPool", {"spec": {"queues": ["a"], "worker": {"thread": 5}}})
    assert 'unknown field "spec.worker.thread"' in refusal(plane, namespace, given)


@pytest.mark.parametrize("kind", MINIMAL)
def test_what_the_server_fills_in_is_what_the_parser_does(plane: ControlPlane, namespace: str, kind: str) -> None:
    stored = apply(plane, namespace, manifest(kind, {}))
    parse = parse_pool if kind == "JobPool" else parse_node
    assert parse(stored).spec == parse(manifest(kind, {})).spec


@pytest.mark.parametrize("options", [[], ["--server-side"]], ids=["client-side", "server-side"])
def test_a_target_can_be_changed_for_the_other_kind(plane: ControlPlane, namespace: str, options: list[str]) -> None:
    for target in (None, {"backlogPerReplica": 100}, {"latencySeconds": 9}, None):
        autoscaling = {"autoscaling": {"target": target}} if target else {}
        stored = apply(plane, namespace, manifest("JobPool", {"spec": {"queues": ["a"], **autoscaling}}), *options)
        assert {**stored["spec"]["autoscaling"].get("target", {}), "queues": []} == {**(target or {}), "queues": []}


def test_a_pod_template_is_stored_as_it_was_given(plane: ControlPlane, namespace: str) -> None:
    given = {
        "metadata": {"labels": {"team": "mail"}, "annotations": {"a": "b"}},
        "spec": {
            "priorityClassName": "urgent",
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
            "containers": [{"name": "worker", "env": [{"name": "A", "value": "1"}]}, {"name": "proxy", "image": "p"}],
            "volumes": [{"name": "spool", "emptyDir": {"sizeLimit": "1Gi"}}],
        },
    }
    stored = apply(plane, namespace, manifest("JobPool", {"spec": {"queues": ["a"], "podTemplate": given}}))
    assert stored["spec"]["podTemplate"] == given
    assert parse_pool(stored).spec.pod_template.overlay == given


def test_a_node_s_domain_cannot_change_but_its_workers_can(plane: ControlPlane, namespace: str) -> None:
    spec = MINIMAL["SendingNode"]
    apply(plane, namespace, manifest("SendingNode", {}))
    moved = {**spec, "workers": {"poolRef": {"name": "email"}, "placement": "Dedicated", "nodeSelector": {"a": "b"}}}
    apply(plane, namespace, manifest("SendingNode", {"spec": moved}))
    apply(plane, namespace, manifest("SendingNode", {}))
    renamed = {**spec, "identity": {"domain": "example.org"}}
    assert "a node's domain may not change" in refusal(plane, namespace, manifest("SendingNode", {"spec": renamed}))


def test_scale_writes_the_replicas_of_the_pool(plane: ControlPlane, namespace: str) -> None:
    apply(plane, namespace, manifest("JobPool", {"spec": {"queues": ["a"], "mode": "Manual"}}))
    plane.kubectl("scale", "jobpool/x", "--replicas=7", namespace=namespace)
    assert plane.kubectl("get", "jp", "x", "-o", "jsonpath={.spec.replicas}", namespace=namespace) == "7"


@pytest.mark.parametrize(
    ("resource", "columns", "wide"),
    [
        ("jp", "NAME MODE DESIRED AVAILABLE BACKLOG OLDEST BOTTLENECK READY REASON AGE", "PAUSED DECISION"),
        ("sn", "NAME PHASE POOL PLACEMENT WARMUP ACCEPTED REMAINING READY AGE", "HOST DOMAIN MESSAGE"),
    ],
)
def test_a_list_shows_what_people_ask(
    plane: ControlPlane, namespace: str, resource: str, columns: str, wide: str
) -> None:
    for kind in MINIMAL:
        apply(plane, namespace, manifest(kind, {}))
    assert plane.kubectl("get", resource, namespace=namespace).splitlines()[0].split() == columns.split()
    shown = plane.kubectl("get", resource, "-o", "wide", namespace=namespace).splitlines()[0].split()
    assert shown == f"{columns} {wide}".split()


def test_a_list_says_why_a_pool_is_refused(plane: ControlPlane, namespace: str) -> None:
    apply(plane, namespace, manifest("JobPool", {}))
    ready = {"type": "Ready", "status": "False", "reason": "InvalidSpec", "message": "spec.worker: …"}
    status = {"status": {"conditions": [ready | {"lastTransitionTime": "2026-01-01T00:00:00Z"}]}}
    plane.kubectl(
        "patch", "jp", "x", "--subresource=status", "--type=merge", "-p", json.dumps(status), namespace=namespace
    )
    assert plane.kubectl("get", "jp", namespace=namespace).splitlines()[1].split()[:4] == [
        "x", "Auto", "False", "InvalidSpec",
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["jobpool.spec.autoscaling.target", "jobpool.spec.podTemplate", "sendingnode.spec"])
def test_explain_reads_like_a_manual(plane: ControlPlane, path: str) -> None:
    assert "<no description>" not in plane.kubectl("explain", path)


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_examples_are_taken_as_they_are(plane: ControlPlane, namespace: str, folder: str) -> None:
    for file in sorted((ROOT / "examples" / folder).glob("*.yaml")):
        if "apiVersion:" in file.read_text():
            plane.kubectl("apply", "--dry-run=server", "-f", str(file), namespace=namespace)


@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_rendered_is_a_deployment_under_the_restricted_standard(
    plane: ControlPlane, namespace: str, folder: str
) -> None:
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/warn=restricted")
    found = load([ROOT / "examples" / folder])
    for workers in worker_sets(found.pools, found.nodes):
        rendered = render(workers, RenderSettings("registry/worker:1"))
        rendered["metadata"] |= {"namespace": namespace, "ownerReferences": []}
        told = plane.kubectl("apply", "--validate=strict", "-f", "-", namespace=namespace, given=rendered)
        assert told == f"deployment.apps/{workers.name} created\n", "and no warning"


def test_overlaid_lists_are_those_that_kubernetes_merges_by_a_key(plane: ControlPlane) -> None:
    definitions = json.loads(plane.kubectl("get", "--raw", "/openapi/v2"))["definitions"]
    keys: dict[str, str] = {}
    retained: set[str] = set()

    def walk(name: str, path: str) -> None:
        for field, node in definitions[name].get("properties", {}).items():
            at = f"{path}.{field}".removeprefix(".")
            if key := node.get("x-kubernetes-patch-merge-key"):
                keys[at] = key
                retained.update([at] if "retainKeys" in node["x-kubernetes-patch-strategy"] else [])
            reference = node.get("$ref") or node.get("items", {}).get("$ref", "")
            if reference and "core.v1" in reference:
                walk(reference.rsplit("/", 1)[1], at)

    walk("io.k8s.api.core.v1.PodTemplateSpec", "")
    expected = {path: key for path, key in keys.items() if not path.startswith(("metadata", "spec.ephemeral"))}
    assert expected == dict(MERGE_KEYS)
    assert retained <= REPLACED


def test_the_group_is_the_one_that_the_operator_watches(plane: ControlPlane) -> None:
    served = plane.kubectl("api-resources", "--categories=postfleet", "-o", "name").split()
    group, version = API_VERSION.split("/")
    assert sorted(served) == [f"jobpools.{group}", f"sendingnodes.{group}"]
    assert version == "v1alpha1"
