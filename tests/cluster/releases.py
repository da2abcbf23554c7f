"""The charts as a release on the suite's API server: Helm, as the person who installs, and what is asked afterwards."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from cluster_worlds import APPS, World
from kubeapi import Manifest, Watch
from nodeagent import Agent

HELM = Path(__file__).resolve().parents[2] / "helm"
CHART, CRDS = HELM / "postfleet", HELM / "postfleet-crds"
ENFORCED = ("pod-security.kubernetes.io/enforce=restricted", "pod-security.kubernetes.io/warn=restricted")
CALLS = re.compile(r"postfleet_operator_api_calls_total\{(.*)\} (\S+)")
Verbs = dict[str, set[str]]
"""By resource, written as `scale` of a Deployment: `apps/deployments/scale`."""


@dataclass(slots=True)
class Release:
    """A release called postfleet in the world's namespace, whose pods the agent runs."""

    world: World
    agent: Agent
    program: Path
    said: list[str] = field(default_factory=list)
    """By Helm, about its own doings and the API server's warnings."""

    def helm(self, *arguments: object, values: Mapping[str, Any] | None = None) -> str:
        """Run it as the administrator; what it printed."""
        place = [f"--kubeconfig={self.world.plane.kubeconfig}", f"--namespace={self.world.namespace}"]
        if values is not None:
            path = self.world.directory / f"values-{len(self.said)}.yaml"
            path.write_text(yaml.safe_dump(dict(values)))
            place.append(f"--values={path}")
        command = [str(self.program), *map(str, arguments), *place]
        env = {"HOME": str(self.world.directory), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=env)
        assert done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}\n{self.hints()}"
        self.said.append(done.stderr)
        return done.stdout

    def install(self, values: Mapping[str, Any], *options: str) -> str:
        """The chart, with PostgreSQL and Redis by their URLs unless the values say where they are."""
        urls = {"database": {"url": self.world.database_url}, "redis": {"url": self.world.redis_url}}
        return self.helm("install", "postfleet", CHART, "--timeout=90s", *options, values={**urls, **values})

    def hints(self) -> str:
        """What a person would look at after a failure."""
        logs = [f"--- {pod}\n{self.agent.log(pod)[-1500:]}" for pod in self.agent.exits]
        return self.world.kubectl("get", "pods,jobs,events", check=False) + "\n".join(logs)

    def pods(self, component: str) -> dict[str, Manifest]:
        """Those of a component by name, without those that are ending."""
        found = self.world.items("pod", labelSelector=f"app.kubernetes.io/component={component}")
        return {pod["metadata"]["name"]: pod for pod in found if "deletionTimestamp" not in pod["metadata"]}

    def logged(self, component: str) -> list[dict[str, Any]]:
        """What all pods of the component have logged, gone ones too."""
        names = [name for name in self.agent.exits if name.startswith(f"postfleet-{component}-")]
        lines = [line for name in names for line in self.agent.log(name).splitlines()]
        return [json.loads(line) if line.startswith("{") else {"event": line} for line in lines]

    def calls(self) -> Counter[str]:
        """Calls of the API by their status code, as the operator's metrics have them now."""
        found: Counter[str] = Counter()
        for name in self.pods("operator"):
            with urllib.request.urlopen(f"http://127.0.0.1:{self.agent.ports()[name]}/metrics", timeout=10) as answer:
                for labels, value in CALLS.findall(answer.read().decode()):
                    code = re.search(r'code="(\w+)"', labels)
                    found[code[1] if code else ""] += int(float(value))
        return found

    def audited(self) -> list[dict[str, Any]]:
        """What the operator's account has asked the API server for, as that has written it down."""
        user = f"system:serviceaccount:{self.world.namespace}:postfleet-operator"
        lines = self.world.plane.audit_log.read_text().splitlines()
        return [event for event in map(json.loads, lines) if event["user"]["username"] == user]

    def asked(self) -> Verbs:
        """The verbs that it has used."""
        used: Verbs = {}
        for event in self.audited():
            if (what := event.get("objectRef")) and "resource" in what:
                parts = (what.get("apiGroup"), what["resource"], what.get("subresource"))
                used.setdefault("/".join(filter(None, parts)), set()).add(event["verb"])
        return used

    def granted(self, *namespaces: str) -> Verbs:
        """The verbs that its Roles give it there."""
        given: Verbs = {}
        for namespace in namespaces:
            text = self.world.plane.kubectl("get", "roles", "-o", "json", namespace=namespace)
            for rule in (rule for role in json.loads(text)["items"] for rule in role["rules"]):
                for resource in rule["resources"]:
                    name = "/".join(filter(None, (rule["apiGroups"][0], resource)))
                    given.setdefault(name, set()).update(rule["verbs"])
        return given

    def refused(self) -> list[str]:
        """Every sign that the operator was not allowed something: the server's word, its own log, its own count."""
        signs = [event["requestURI"] for event in self.audited() if event["responseStatus"]["code"] in (401, 403)]
        signs += [str(line) for line in self.logged("operator") if re.search("orbidden|nauthorized", str(line))]
        return signs + [code for code in self.calls() if code in ("401", "403")]


@contextmanager
def replicas_told(world: World) -> Iterator[dict[str, list[int]]]:
    """Every number of replicas that each Deployment is given, by its name, as a watch hears of it."""
    seen: dict[str, list[int]] = {}

    def told(kind: str, deployment: Manifest) -> None:
        numbers = seen.setdefault(deployment["metadata"]["name"], [])
        if kind != "DELETED" and numbers[-1:] != [deployment["spec"]["replicas"]]:
            numbers.append(deployment["spec"]["replicas"])

    watch = Watch(world.api, f"{APPS}/namespaces/{world.namespace}/deployments", told)
    watch.start()
    try:
        watch.listed.wait(10)
        yield seen
    finally:
        watch.close()


def newer(directory: Path) -> Path:
    """The chart's next version, whose images are new and whose pool of mail has another maximum."""
    copy = directory / "postfleet"
    shutil.copytree(CHART, copy)
    for name, pattern, instead in (
        ("Chart.yaml", r"(?m)^(version|appVersion): .*$", r"\1: 99.0.0"),
        ("values.yaml", "maxReplicas: 20", "maxReplicas: 17"),
    ):
        text, times = re.subn(pattern, instead, (copy / name).read_text())
        assert times, name
        (copy / name).write_text(text)
    return copy
