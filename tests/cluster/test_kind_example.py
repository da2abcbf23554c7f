"""What `make kind-up` gives to its cluster, given to a real API server: taken as it is, by the restricted standard."""

from __future__ import annotations

import subprocess
from pathlib import Path

import assets
import pytest
import yaml
from servers import ControlPlane

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples/02-kind"
RESTRICTED = "pod-security.kubernetes.io/warn=restricted"


def test_the_namespace_and_the_sink_are_taken_without_a_warning(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("apply", "--dry-run=server", "-f", str(EXAMPLE / "cluster/namespace.yaml"))
    plane.kubectl("label", "namespace", namespace, RESTRICTED)
    sink = str(EXAMPLE / "cluster/sink.yaml")
    said = plane.kubectl("apply", "--dry-run=server", "--validate=strict", "-f", sink, namespace=namespace)
    assert said.splitlines() == [
        "deployment.apps/sink created (server dry run)",
        "service/sink created (server dry run)",
    ]


def test_the_chart_with_the_example_s_values_is_taken_without_a_warning(
    plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    plane.kubectl("label", "namespace", namespace, RESTRICTED)
    values = [f"--values={EXAMPLE / 'cluster/values.yaml'}", "--set=image.tag=kind-0123456789ab", "--no-hooks"]
    command = [assets.helm(), "template", "postfleet", ROOT / "helm/postfleet", f"--namespace={namespace}", *values]
    done = subprocess.run(command, capture_output=True, text=True, env={"HOME": str(tmp_path)}, check=False)
    assert done.returncode == 0, done.stderr
    rendered = [found for found in yaml.safe_load_all(done.stdout) if found]
    assert "JobPool" not in {found["kind"] for found in rendered}, "the pool is the example's"
    said = plane.kubectl(
        "apply", "--dry-run=server", "--validate=strict", "-f", "-", namespace=namespace, given=rendered
    )
    assert len(said.splitlines()) == len(rendered), "one line each, and no warning"


@pytest.mark.parametrize("name", ["pool", "node", "secrets"])
def test_the_manifests_leave_the_namespace_to_the_command(name: str) -> None:
    for found in yaml.safe_load_all((EXAMPLE / f"{name}.yaml").read_text()):
        assert "namespace" not in found["metadata"]
