"""One replica: a child process in a group of its own, from its start to its end."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from postfleet_local.pods import Launch, PodError, Probe
from postfleet_local.warden import Warden

WORKER_STAGE, RELAY_STAGE, SERVER_STAGE = 1, 2, 3
STARTING_PROBE_SECONDS = 0.2


class Phase(StrEnum):
    """Where a replica stands."""

    WAITING = "waiting"
    """Not running: to be started at `start_at`."""
    RUNNING = "running"
    READY = "ready"
    HUNG = "hung"
    """Found dead by its liveness probe and told to end: to be started again."""
    STOPPING = "stopping"


def child_environment(extra: dict[str, str]) -> dict[str, str]:
    """This process' environment without its own POSTFLEET_* settings, with `extra`, our scripts first on PATH."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("POSTFLEET_")}
    scripts = str(Path(sys.executable).parent)
    inherited["PATH"] = os.pathsep.join([scripts, inherited.get("PATH", os.defpath)])
    inherited["PYTHONUNBUFFERED"] = "1"
    return inherited | extra


def start(argv: tuple[str, ...], env: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
    """Start a child in its own group, its output appended to `log`.

    Raises:
        PodError: there is no such program.
    """
    full = child_environment(env)
    program = shutil.which(argv[0], path=full["PATH"])
    if program is None:
        raise PodError(f"program {argv[0]!r} not found")
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as out:
        return subprocess.Popen(
            [program, *argv[1:]], env=full, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            cwd=log.parent,
        )  # fmt: skip


@dataclass(slots=True)
class Replica:
    """A replica's process and what is known of it. Only the cluster's loop changes it.

    Times are monotonic seconds; `created_at` and `ready_at` (None: it is not) are epoch seconds, as a pod has them.
    """

    name: str
    number: int
    template: str
    pod: Mapping[str, Any]
    created_at: float = field(default_factory=time.time)
    ready_at: float | None = None
    port: int = 0
    grace_seconds: float = 30.0
    phase: Phase = Phase.WAITING
    start_at: float = 0.0
    started_at: float = 0.0
    probe_at: float = 0.0
    liveness_at: float = 0.0
    kill_at: float = 0.0
    probes_failed: int = 0
    liveness_failed: int = 0
    answered: bool = False
    crashes: int = 0
    restarts: int = 0
    message: str = ""
    launch: Launch | None = None
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return self.process.pid if self.process is not None else None

    def run(self, launch: Launch, log: Path, now: float, warden: Warden) -> None:
        """Start it.

        Raises:
            PodError: there is no such program.
            OSError: this machine has not what it takes (files, memory, disk).
        """
        self.process = start(launch.argv, dict(launch.env), log)
        warden.watch(self.process.pid, stage=WORKER_STAGE)
        self.launch, self.started_at, self.message = launch, now, ""
        self.probe_at, self.probes_failed = now, 0
        self.liveness_at, self.liveness_failed, self.answered = now, 0, False
        self.turn(Phase.READY if launch.readiness is None else Phase.RUNNING)

    def stop(self, now: float, phase: Phase = Phase.STOPPING) -> None:
        """SIGTERM, as kubelet does; `kill_at` is when the patience ends. `Phase.HUNG`: to be started again."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGTERM)
        self.turn(phase)
        self.kill_at = now + self.grace_seconds

    def kill(self) -> None:
        """SIGKILL to the whole group."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)

    def wait_for_end(self, seconds: float) -> None:
        """Wait so long for the process to end by itself, then kill it."""
        if self.process is not None:
            try:
                self.process.wait(max(0.0, seconds))
            except subprocess.TimeoutExpired:
                self.kill()
                self.process.wait()

    def reap(self, warden: Warden) -> int | None:
        """The exit code if the process has ended since; what is left of its group ends with it, as in a container."""
        if self.process is None or (code := self.process.poll()) is None:
            return None
        self.kill()
        warden.forget(self.process.pid)
        self.process = None
        return code

    def probed(self, *, ready: bool, now: float) -> None:
        """Take in a probe's result: one success makes it ready, only several failures in a row make it unready."""
        probe = self.launch.readiness if self.launch else None
        self.probes_failed = 0 if ready else self.probes_failed + 1
        if ready:
            self.turn(Phase.READY)
        elif probe and self.probes_failed >= probe.failures:
            self.turn(Phase.RUNNING)
        self.probe_at = now + (probe.period_seconds if probe and self.phase is Phase.READY else STARTING_PROBE_SECONDS)

    def turn(self, phase: Phase) -> None:
        """Enter a phase."""
        self.phase = phase
        self.ready_at = (self.ready_at or time.time()) if phase is Phase.READY else None

    def found(self, *, alive: bool, now: float) -> bool:
        """Take in a liveness probe's result. True: it failed too often in a row, so the process was told to end."""
        launch = self.launch
        if launch is None or launch.liveness is None:
            return False
        self.answered = self.answered or alive
        starting = not self.answered and now < self.started_at + launch.startup_seconds
        self.liveness_failed = 0 if alive or starting else self.liveness_failed + 1
        self.liveness_at = now + launch.liveness.period_seconds
        hung = self.liveness_failed >= launch.liveness.failures
        if hung:
            self.message = f"no answer at {launch.liveness.path}, {self.liveness_failed} times in a row: is ended"
            self.stop(now, Phase.HUNG)
        return hung

    def answers(self, probe: Probe) -> bool:
        """Ask a probe."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=probe.timeout_seconds)
        try:
            connection.request("GET", probe.path)
            return 200 <= connection.getresponse().status < 400
        except (OSError, HTTPException):
            return False
        finally:
            connection.close()
