"""Renders the charts with the real Helm, as `helm install` would, and finds what they made."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "helm" / "postfleet"
CRDS = ROOT / "helm" / "postfleet-crds"
SETS = sorted(path.stem.removesuffix("-values") for path in (CHART / "ci").glob("*-values.yaml"))
NAMESPACE = "mail"
RELEASE = "postfleet"
POD_OWNERS = {"Deployment", "Job"}
MINIMAL: dict[str, Any] = {
    "database": {"url": "postgresql://u:p@db/postfleet"},
    "redis": {"url": "redis://cache/0"},
}

Manifest = dict[str, Any]


def values_of(name: str) -> Path:
    """The file of a value set."""
    return CHART / "ci" / f"{name}-values.yaml"


@dataclass(frozen=True, slots=True)
class Helm:
    """The program. `home` keeps it out of the user's own configuration."""

    program: Path
    home: Path

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run it and take down what it says."""
        env = {"HOME": str(self.home), "PATH": "/usr/bin:/bin"}
        return subprocess.run([str(self.program), *args], capture_output=True, text=True, env=env, timeout=100)

    def template(self, *args: str) -> list[Manifest]:
        """The objects of a release, hooks and tests among them."""
        done = self.run("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *args)
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]

    def render(self, values: str | Mapping[str, Any], *args: str) -> list[Manifest]:
        """The same with a set's values, or with these over the least that is needed."""
        if isinstance(values, str):
            return self.template(f"--values={values_of(values)}", *args)
        return self.template(f"--values={self._written(MINIMAL)}", f"--values={self._written(values)}", *args)

    def refusal(self, values: Mapping[str, Any]) -> str:
        """What it says about values that it does not take, given alone."""
        done = self.run("template", RELEASE, str(CHART), f"--values={self._written(values)}")
        assert done.returncode != 0, done.stdout
        return done.stderr

    def _written(self, values: Mapping[str, Any]) -> Path:
        path = self.home / f"values-{len(list(self.home.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(dict(values)))
        return path


def of_kind(objects: list[Manifest], kind: str) -> list[Manifest]:
    """All of a kind."""
    return [found for found in objects if found["kind"] == kind]


def one(objects: list[Manifest], kind: str, name: str, namespace: str = NAMESPACE) -> Manifest:
    """The one of that name."""
    [found] = [
        found
        for found in of_kind(objects, kind)
        if found["metadata"]["name"] == name and found["metadata"].get("namespace", namespace) == namespace
    ]
    return found


def pods(objects: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Every pod that the objects make, as name and `{metadata, spec}`."""
    for found in objects:
        name = f"{found['kind']}/{found['metadata']['name']}"
        if found["kind"] in POD_OWNERS:
            yield name, found["spec"]["template"]
        elif found["kind"] == "Pod":
            yield name, found


def containers(pod: Manifest) -> list[Manifest]:
    """All of a pod's."""
    return [*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]]


def env(container: Manifest) -> dict[str, Any]:
    """Variables by name: the value, or where it comes from."""
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container.get("env", ())}
