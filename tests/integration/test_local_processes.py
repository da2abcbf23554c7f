"""The cluster of processes, with a real program in the place of a worker."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from postfleet_local.processes import Processes
from postfleet_local.warden import Warden

PROGRAM = Path(__file__).parent / "pod_program.py"
SECONDS = 20.0


@pytest.fixture
def warden() -> Iterator[Warden]:
    warden = Warden()
    yield warden
    warden.close()


@pytest.fixture
def processes(tmp_path: Path, warden: Warden) -> Iterator[Processes]:
    processes = Processes(tmp_path, warden)
    processes.put_secret("connections", {"POSTFLEET_REDIS_URL": b"redis://here"})
    yield processes
    processes.close(patience_seconds=0.5)


def template(*, grace: int = 5, liveness: int = 0, **env: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": "worker",
        "command": [sys.executable, str(PROGRAM)],
        "env": [
            {"name": "POSTFLEET_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POSTFLEET_HEALTH_HOST", "value": "0.0.0.0"},
            {"name": "POSTFLEET_HEALTH_PORT", "value": "8080"},
            {"name": "POSTFLEET_CREDENTIALS_DIR", "value": "/var/run/postfleet/nodes"},
            *({"name": name, "value": value} for name, value in env.items()),
        ],
        "envFrom": [{"secretRef": {"name": "connections"}}],
        "volumeMounts": [{"name": "creds", "mountPath": "/var/run/postfleet/nodes"}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 1},
    }
    if liveness:
        container["livenessProbe"] = {
            "httpGet": {"path": "/healthz"}, "periodSeconds": 0.1, "timeoutSeconds": 2.0, "failureThreshold": liveness,
            "initialDelaySeconds": 5,  # a busy machine takes its time to start a program
        }  # fmt: skip
    volumes = [{"name": "creds", "secret": {"secretName": "email-nodes", "optional": True}}]
    return {"spec": {"terminationGracePeriodSeconds": grace, "containers": [container], "volumes": volumes}}


def ready(processes: Processes, count: int) -> bool:
    status = processes.status("email")
    return status is not None and status.ready == status.replicas == count == len(status.pids)


def pids(processes: Processes) -> dict[str, int]:
    status = processes.status("email")
    return dict(status.pids) if status else {}


def up(processes: Processes, count: int, pod: dict[str, Any] | None = None) -> dict[str, int]:
    processes.put_deployment("email", pod or template())
    processes.set_replicas("email", count)
    assert processes.wait(lambda: ready(processes, count), SECONDS)
    return pids(processes)


def ask(pid: int, path: str) -> str:
    port = psutil.Process(pid).environ()["POSTFLEET_HEALTH_PORT"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        return str(answer.read().decode())


def test_replicas_come_up_with_what_their_pod_template_says(processes: Processes, tmp_path: Path) -> None:
    processes.put_secret("email-nodes", {"acme-1.username": b"acme"})
    replicas = up(processes, 2)
    for name, pid in replicas.items():
        env = json.loads(ask(pid, "/env"))
        assert env["POSTFLEET_REPLICA"] == name
        assert env["POSTFLEET_REDIS_URL"] == "redis://here"
        assert env["POSTFLEET_HEALTH_HOST"] == "127.0.0.1"
        assert ask(pid, f"/file?{env['POSTFLEET_CREDENTIALS_DIR']}/acme-1.username") == "acme"
        assert (tmp_path / "logs" / f"{name}.log").exists()


def test_settings_of_the_fleet_itself_do_not_reach_replicas(
    processes: Processes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", "postgresql://production")
    (pid,) = up(processes, 1).values()
    assert "POSTFLEET_DATABASE_URL" not in json.loads(ask(pid, "/env"))


def test_a_changed_secret_reaches_running_replicas_as_files(processes: Processes) -> None:
    processes.put_secret("email-nodes", {"acme-1.password": b"old"})
    (pid,) = up(processes, 1).values()
    folder = json.loads(ask(pid, "/env"))["POSTFLEET_CREDENTIALS_DIR"]
    processes.put_secret("email-nodes", {"acme-1.password": b"new"})
    assert ask(pid, f"/file?{folder}/acme-1.password") == "new"


def test_a_replica_is_ready_only_when_its_probe_says_so(processes: Processes, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    processes.put_deployment("email", template(POD_READY_FILE=str(gate)))
    processes.set_replicas("email", 1)
    assert processes.wait(lambda: len(pids(processes)) == 1, SECONDS)
    (pid,) = pids(processes).values()
    wait_until(lambda: bool(psutil.Process(pid).net_connections()))
    assert not ready(processes, 1)
    gate.touch()
    assert processes.wait(lambda: ready(processes, 1), SECONDS)


def test_scaling_to_zero_ends_every_replica_with_sigterm(processes: Processes) -> None:
    replicas = up(processes, 2)
    processes.set_replicas("email", 0)
    assert processes.wait(lambda: not pids(processes), SECONDS)
    assert not any(psutil.pid_exists(pid) for pid in replicas.values())


def test_a_replica_that_ignores_sigterm_is_killed_after_its_grace(processes: Processes) -> None:
    (pid,) = up(processes, 1, template(grace=1, POD_STUBBORN="1")).values()
    asked = time.monotonic()
    processes.set_replicas("email", 0)
    assert processes.wait(lambda: not pids(processes), SECONDS)
    assert time.monotonic() - asked >= 1.0
    assert not psutil.pid_exists(pid)


def test_a_killed_replica_comes_back_under_its_name(processes: Processes) -> None:
    ((name, pid),) = up(processes, 1).items()
    os.kill(pid, signal.SIGKILL)
    assert processes.wait(lambda: ready(processes, 1) and pids(processes) != {name: pid}, SECONDS)
    assert list(pids(processes)) == [name]


def said(processes: Processes, words: str) -> bool:
    status = processes.status("email")
    return status is not None and any(words in message for message in status.messages)


def test_a_replica_that_fails_its_liveness_probe_is_ended_and_started_again(
    processes: Processes, tmp_path: Path
) -> None:
    sick = tmp_path / "sick"
    ((name, pid),) = up(processes, 1, template(liveness=3, POD_SICK_FILE=str(sick))).items()
    sick.touch()
    assert processes.wait(lambda: said(processes, "ended with signal 15, restarts in 1 s"), SECONDS)
    sick.unlink()
    assert processes.wait(lambda: ready(processes, 1), SECONDS)
    assert list(pids(processes)) == [name]
    assert not psutil.pid_exists(pid)


def test_a_frozen_replica_is_killed_when_its_grace_is_over(processes: Processes) -> None:
    (pid,) = up(processes, 1, template(liveness=1, grace=1)).values()
    os.kill(pid, signal.SIGSTOP)
    assert processes.wait(lambda: said(processes, "no answer at /healthz, 1 times in a row: is ended"), SECONDS)
    assert psutil.pid_exists(pid)
    assert processes.wait(lambda: said(processes, "ended with signal 9"), SECONDS)


def test_what_this_machine_cannot_do_is_said_and_tried_again(processes: Processes, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.write_text("in the way")  # as a full disk: no log, so no process
    processes.put_deployment("email", template())
    processes.set_replicas("email", 1)
    assert processes.wait(lambda: said(processes, "File exists"), SECONDS)
    logs.unlink()
    assert processes.wait(lambda: ready(processes, 1), SECONDS)


def test_a_step_that_fails_leaves_the_others_going(processes: Processes) -> None:
    broken = template()
    broken["spec"]["terminationGracePeriodSeconds"] = "soon"
    processes.put_deployment("broken", broken)
    processes.set_replicas("broken", 1)
    up(processes, 1)
    status = processes.status("broken")
    assert status is not None
    assert status.messages == ("broken: could not convert string to float: 'soon'",)
    processes.put_deployment("broken", template())
    assert processes.wait(lambda: getattr(processes.status("broken"), "ready", 0) == 1, SECONDS)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_closing_ends_replicas_even_if_the_loop_has_ended(tmp_path: Path, warden: Warden) -> None:
    ended: list[str] = []
    processes = Processes(tmp_path, warden, lambda name, _: ended.append(name))
    processes.put_secret("connections", {})
    replicas = up(processes, 2, template(grace=1, POD_STUBBORN="1"))
    processes._step = lambda *_: sys.exit()  # type: ignore[method-assign]
    wait_until(lambda: not processes._thread.is_alive())
    processes.close()
    assert not any(psutil.pid_exists(pid) for pid in replicas.values())
    assert sorted(ended) == sorted(replicas)


def test_a_replica_that_keeps_ending_waits_longer_each_time(processes: Processes) -> None:
    processes.put_deployment("email", template(POD_EXIT="3"))
    processes.set_replicas("email", 1)

    assert processes.wait(lambda: said(processes, "ended with exit code 3, restarts in 1 s"), SECONDS)
    assert processes.wait(lambda: said(processes, "ended with exit code 3, restarts in 2 s"), SECONDS)


def test_a_changed_template_is_rolled_out_without_a_gap(processes: Processes) -> None:
    old = up(processes, 1)
    processes.put_deployment("email", template(COLOUR="green"))
    gaps = []

    def rolled_out() -> bool:
        status = processes.status("email")
        assert status is not None
        gaps.append(status.ready == 0)
        return ready(processes, 1) and not old.keys() & status.pids.keys()

    assert processes.wait(rolled_out, SECONDS)
    assert not any(gaps)
    (pid,) = pids(processes).values()
    assert json.loads(ask(pid, "/env"))["COLOUR"] == "green"


def test_a_missing_secret_holds_the_replica_back_until_it_is_there(processes: Processes) -> None:
    processes.delete_secret("connections")
    processes.put_deployment("email", template())
    processes.set_replicas("email", 1)

    def told() -> bool:
        status = processes.status("email")
        return status is not None and any("secret 'connections' not found" in m for m in status.messages)

    assert processes.wait(told, SECONDS)
    processes.put_secret("connections", {})
    assert processes.wait(lambda: ready(processes, 1), SECONDS)


def test_a_deleted_deployment_leaves_nothing(processes: Processes) -> None:
    (pid,) = up(processes, 1).values()
    processes.delete_deployment("email")
    assert processes.status("email") is None
    wait_until(lambda: not psutil.pid_exists(pid))


def test_a_deployment_that_is_wanted_again_while_it_ends_goes_on(processes: Processes) -> None:
    up(processes, 1)
    processes.delete_deployment("email")
    up(processes, 1)
    time.sleep(0.5)  # several steps of the loop
    assert ready(processes, 1)


def test_the_named_replicas_end_first_and_each_tells_since_when_it_is_ready(processes: Processes) -> None:
    began = time.time()
    names = list(up(processes, 3))
    status = processes.status("email")
    assert status is not None
    assert all(began <= pod.created_at <= (pod.ready_at or 0.0) <= time.time() for pod in status.pods)
    processes.set_replicas("email", 1, names[:2])
    assert processes.wait(lambda: list(pids(processes)) == names[2:], SECONDS)


def test_what_a_killed_fleet_started_ends_with_it(tmp_path: Path) -> None:
    code = f"""
import sys, json
sys.path.insert(0, {str(PROGRAM.parent)!r})
from pathlib import Path
from test_local_processes import up
from postfleet_local.processes import Processes
from postfleet_local.warden import Warden
processes = Processes(Path({str(tmp_path)!r}), Warden())
processes.put_secret("connections", {{}})
print(json.dumps(up(processes, 2)), flush=True)
sys.stdin.read()
"""
    fleet = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert fleet.stdout is not None
    assert fleet.stdin is not None
    replicas = json.loads(fleet.stdout.readline())
    fleet.kill()
    fleet.wait()
    fleet.stdin.close()
    fleet.stdout.close()
    wait_until(lambda: not any(alive(pid) for pid in replicas.values()))


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def wait_until(predicate: Any, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not predicate():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.02)
