"""What the suite's own kubelet does with pods, as far as the other tests lean on it."""

from __future__ import annotations

import base64
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import podfiles
import pytest
from nodeagent import Agent
from operators import eventually
from podstatus import Machine
from servers import ControlPlane

# Says what it was given, is ready while `ready` says so, and goes on after SIGTERM if it is told to.
PROGRAM = """
import http.server, json, os, pathlib, signal, sys, threading, time
mounted = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else None
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path != "/no" else 503)
        self.end_headers()
    def log_message(self, *_):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(os.environ["POSTFLEET_HEALTH_PORT"])), Health)
threading.Thread(target=server.serve_forever, daemon=True).start()
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
print(json.dumps(dict(os.environ)), flush=True)
seen = None
while not (asked and "STUBBORN" not in os.environ):
    now = (mounted / "key").read_text() if mounted and (mounted / "key").exists() else None
    if now != seen:
        seen = now
        print("mounted", seen, flush=True)
    time.sleep(0.02)
"""


class Apps:
    """Deployments of the program in the test's namespace."""

    def __init__(self, plane: ControlPlane, namespace: str, agent: Agent, directory: Path) -> None:
        self.plane, self.namespace, self.agent = plane, namespace, agent
        self.program = directory / "program.py"
        self.program.write_text(PROGRAM)

    def kubectl(self, *arguments: str, given: Any = None) -> str:
        return self.plane.kubectl(*arguments, namespace=self.namespace, given=given)

    def deploy(self, replicas: int = 1, env: tuple[Any, ...] = (), path: str = "/", **pod: Any) -> None:
        """Apply the Deployment `app`; `command` and the like of `pod` go to the container."""
        probe = {"httpGet": {"path": path, "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
        container = {
            "name": "c",
            "image": "none",
            "command": [sys.executable, str(self.program), "/mounted"],
            "readinessProbe": probe,
            "env": [{"name": "POSTFLEET_HEALTH_PORT", "value": "8080"}, *env],
        }
        for key in ("command", "livenessProbe", "envFrom", "volumeMounts"):
            if key in pod:
                container[key] = pod.pop(key)
        template = {"metadata": {"labels": {"app": "app"}}, "spec": {"containers": [container], **pod}}
        spec = {"replicas": replicas, "selector": {"matchLabels": {"app": "app"}}, "template": template}
        app = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "app"}, "spec": spec}
        self.kubectl("apply", "--server-side", "-f", "-", given=app)

    def pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.kubectl("get", "pods", "-o", "json"))["items"]
        return found

    def available(self) -> None:
        self.kubectl("rollout", "status", "deployment/app", "--timeout=30s")

    def only(self) -> str:
        (name,) = self.agent.pids()
        return name


@pytest.fixture
def apps(plane: ControlPlane, namespace: str, agent: Agent, tmp_path: Path) -> Apps:
    return Apps(plane, namespace, agent, tmp_path)


def test_a_pod_is_given_what_it_refers_to_and_sees_a_mounted_secret_change(apps: Apps) -> None:
    apps.kubectl("create", "secret", "generic", "s", "--from-literal=key=first", "--from-literal=HIDDEN=h$(X)")
    apps.kubectl("create", "configmap", "m", "--from-literal=key=from-map", "--from-literal=WHOLE=w$(X)")
    field, secret, chart = "fieldRef", "secretKeyRef", "configMapKeyRef"
    apps.deploy(
        env=(
            {"name": "NAME", "valueFrom": {field: {"fieldPath": "metadata.name"}}},
            {"name": "PLACE", "valueFrom": {field: {"fieldPath": "spec.nodeName"}}},
            {"name": "SPACE", "valueFrom": {field: {"fieldPath": "metadata.namespace"}}},
            {"name": "ONE", "valueFrom": {secret: {"name": "s", "key": "key"}}},
            {"name": "MAP", "valueFrom": {chart: {"name": "m", "key": "key"}}},
            {"name": "BOTH", "value": "$(ONE)/$(MAP)"},
        ),
        envFrom=[{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "m"}}],
        volumes=[{"name": "v", "secret": {"secretName": "s"}}],
        volumeMounts=[{"name": "v", "mountPath": "/mounted"}],
    )
    apps.available()
    name = apps.only()
    env = json.loads(apps.agent.log(name).splitlines()[0])
    expected = {
        "NAME": name,
        "PLACE": f"{apps.namespace}-node",
        "SPACE": apps.namespace,
        "ONE": "first",
        "MAP": "from-map",
        "BOTH": "first/from-map",
        "HIDDEN": "h$(X)",
        "WHOLE": "w$(X)",
    }
    assert {key: env.get(key) for key in expected} == expected
    eventually(lambda: apps.agent.log(name), lambda log: "mounted first" in log)
    apps.kubectl("patch", "secret", "s", "-p", '{"stringData": {"key": "second"}}')
    eventually(lambda: apps.agent.log(name), lambda log: "mounted second" in log)
    assert list(apps.agent.pids()) == [name]


def test_a_pod_waits_for_a_secret_that_is_not_there_yet(apps: Apps) -> None:
    apps.deploy(env=({"name": "ONE", "valueFrom": {"secretKeyRef": {"name": "s", "key": "key"}}},))
    eventually(lambda: str(apps.pods()), lambda text: "CreateContainerConfigError" in text)
    apps.kubectl("create", "secret", "generic", "s", "--from-literal=key=value")
    apps.available()


def test_a_rollout_runs_and_nothing_of_the_old_pods_is_left(apps: Apps) -> None:
    apps.deploy(replicas=3)
    apps.available()
    before = set(apps.agent.pids())
    apps.deploy(replicas=3, env=({"name": "NEW", "value": "1"},))
    apps.available()
    eventually(apps.agent.pids, lambda now: len(now) == 3 and not before & set(now))
    eventually(apps.pods, lambda found: len(found) == 3)
    assert all(apps.agent.exits[name][0].code == 0 for name in before)


def test_one_that_does_not_end_is_killed_after_its_grace(apps: Apps) -> None:
    apps.deploy(env=({"name": "STUBBORN", "value": "1"},), terminationGracePeriodSeconds=1)
    apps.available()
    name = apps.only()
    apps.deploy(replicas=0, env=({"name": "STUBBORN", "value": "1"},), terminationGracePeriodSeconds=1)
    eventually(apps.pods, lambda found: not found)
    assert [end.code for end in apps.agent.exits[name]] == [137]


def test_one_that_dies_is_started_again_and_was_not_ready_meanwhile(apps: Apps) -> None:
    apps.deploy()
    apps.available()
    (name, pid) = next(iter(apps.agent.pids().items()))
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: apps.pods()[0]["status"], lambda status: "CrashLoopBackOff" in str(status))
    eventually(lambda: apps.pods()[0]["status"]["containerStatuses"][0], lambda told: told["ready"])
    told = apps.pods()[0]["status"]["containerStatuses"][0]
    assert (told["restartCount"], told["lastState"]["terminated"]["exitCode"]) == (1, 137)
    assert apps.only() == name


def test_one_that_does_not_answer_is_started_again(apps: Apps) -> None:
    liveness = {"httpGet": {"path": "/", "port": 8080}, "periodSeconds": 1, "failureThreshold": 2}
    apps.deploy(livenessProbe=liveness, terminationGracePeriodSeconds=1)
    apps.available()
    (_, pid) = next(iter(apps.agent.pids().items()))
    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: apps.pods()[0]["status"]["containerStatuses"][0], lambda told: told["restartCount"] == 1)
    apps.available()


def test_one_that_is_not_ready_is_running(apps: Apps) -> None:
    apps.deploy(path="/no")
    eventually(lambda: [pod["status"]["phase"] for pod in apps.pods()], lambda found: found == ["Running"])
    conditions = {each["type"]: each["status"] for each in apps.pods()[0]["status"]["conditions"]}
    assert (conditions["Ready"], conditions["PodScheduled"]) == ("False", "True")


def test_pods_that_no_node_takes_say_so_until_one_does(apps: Apps) -> None:
    node = next(iter(apps.agent.machines.values()))
    node.capacity = 1
    apps.deploy(replicas=2)

    def scheduled() -> list[tuple[str, str]]:
        conditions = [each for pod in apps.pods() for each in pod["status"].get("conditions", ())]
        return sorted((c["status"], c.get("reason", "")) for c in conditions if c["type"] == "PodScheduled")

    eventually(scheduled, lambda found: found == [("False", "Unschedulable"), ("True", "")])
    node.capacity = 2
    apps.available()
    assert scheduled() == [("True", ""), ("True", "")]


def test_pods_go_where_their_selector_and_tolerations_lead(apps: Apps) -> None:
    taint = {"key": "mail", "value": "yes", "effect": "NoSchedule"}
    apps.agent.add(Machine(f"{apps.namespace}-own", {"place": "own"}, (taint,)))
    apps.deploy(nodeSelector={"place": "own"})
    eventually(lambda: str(apps.pods()), lambda text: "Unschedulable" in text)
    apps.deploy(nodeSelector={"place": "own"}, tolerations=[{"key": "mail", "operator": "Exists"}])
    apps.available()
    assert apps.pods()[0]["spec"]["nodeName"] == f"{apps.namespace}-own"


def test_pods_outlive_their_api_server(apps: Apps, plane: ControlPlane) -> None:
    apps.deploy(replicas=2)
    apps.available()
    before = apps.agent.pids()
    plane.apiserver.kill()
    os.kill(next(iter(before.values())), signal.SIGKILL)
    eventually(apps.agent.pids, lambda now: set(now) == set(before) and now != before)
    plane.restart_apiserver()
    eventually(lambda: str(apps.pods()), lambda text: "'restartCount': 1" in text)
    apps.deploy(replicas=0)
    eventually(apps.pods, lambda found: not found)
    assert apps.agent.pids() == {}


def job(script: str) -> dict[str, Any]:
    container = {"name": "c", "image": "none", "command": [sys.executable, "-c", script]}
    spec = {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "job"}, "spec": spec}


@pytest.mark.parametrize(("script", "end"), [("pass", "Complete"), ("raise SystemExit(3)", "Failed")])
def test_a_job_s_pod_ends_by_itself_and_goes_with_its_job(apps: Apps, script: str, end: str) -> None:
    apps.kubectl("apply", "-f", "-", given=job(script))
    apps.kubectl("wait", f"--for=condition={end}", "job/job", "--timeout=30s")
    [pod] = apps.pods()
    terminated = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    assert (pod["status"]["phase"], terminated["exitCode"]) == (
        ("Succeeded", 0) if end == "Complete" else ("Failed", 3)
    )
    apps.kubectl("delete", "job", "job")
    eventually(apps.pods, lambda found: not found)


def test_a_pod_finds_the_token_of_its_account(apps: Apps) -> None:
    assert podfiles.able(), podfiles.UNABLE
    apps.kubectl("apply", "-f", "-", given=job(f"print(open('{podfiles.ACCOUNT}/token').read())"))
    apps.kubectl("wait", "--for=condition=Complete", "job/job", "--timeout=30s")
    [name] = [pod["metadata"]["name"] for pod in apps.pods()]
    _, claims, _ = apps.agent.log(name).strip().split(".")
    found = json.loads(base64.urlsafe_b64decode(claims + "=="))
    assert found["sub"] == f"system:serviceaccount:{apps.namespace}:default"
    assert found["kubernetes.io"]["pod"]["name"] == name


def test_many_pods_may_be_pretended(plane: ControlPlane, namespace: str, tmp_path: Path) -> None:
    machine = Machine(f"{namespace}-node", capacity=500)
    agent = Agent(plane, namespace, tmp_path / "pods", machines=(machine,), pretend_ready_seconds=0.5)
    agent.start()
    try:
        apps = Apps(plane, namespace, agent, tmp_path)
        apps.deploy(replicas=60)
        apps.available()
        assert agent.pids() == {}
        apps.deploy(replicas=0)
        eventually(apps.pods, lambda found: not found)
    finally:
        agent.close()
