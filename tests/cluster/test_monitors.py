"""The chart's PodMonitors and PrometheusRule, as an API server with the Prometheus operator's CRDs takes them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from assets import helm, monitors
from servers import ControlPlane

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "helm"))

from charts import Helm

KINDS = {"PodMonitor": "podmonitors", "PrometheusRule": "prometheusrules"}


@pytest.fixture
def monitored(plane: ControlPlane) -> Iterator[ControlPlane]:
    files = [monitors() / f"monitoring.coreos.com_{plural}.yaml" for plural in KINDS.values()]
    for file in files:
        plane.kubectl("apply", "--server-side", "-f", str(file))
    for plural in KINDS.values():
        name = f"crd/{plural}.monitoring.coreos.com"
        plane.kubectl("wait", "--for=condition=Established", "--timeout=30s", name)
    yield plane
    for file in files:
        plane.kubectl("delete", "-f", str(file))


def test_no_field_of_monitors_and_rules_is_unknown_or_refused(
    monitored: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    rendered = Helm(helm(), tmp_path).render("existing")
    found = [manifest for manifest in rendered if manifest["kind"] in KINDS]
    assert {manifest["kind"] for manifest in found} == KINDS.keys()
    for manifest in found:
        manifest["metadata"]["namespace"] = namespace
        options = ("--server-side", "--validate=strict", "-o", "json")
        answer = monitored.kubectl("apply", *options, "-f", "-", namespace=namespace, given=manifest)
        stored = json.loads(answer)["spec"]
        assert kept(manifest["spec"], stored), manifest["metadata"]["name"]


def kept(given: Any, stored: Any) -> bool:
    """Whether all that was given is still there, beside defaults."""
    if isinstance(given, dict):
        return all(key in stored and kept(value, stored[key]) for key, value in given.items())
    if isinstance(given, list):
        return len(given) == len(stored) and all(kept(*pair) for pair in zip(given, stored, strict=True))
    return bool(given == stored)
