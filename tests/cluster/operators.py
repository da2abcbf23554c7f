"""The operator as a real process against the suite's API server, and what a test wants to know about it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from servers import ControlPlane, Program

T = TypeVar("T")
WAIT_SECONDS = 30.0


def eventually(look: Callable[[], T], wanted: Callable[[T], object] = bool, seconds: float = WAIT_SECONDS) -> T:
    """Look until the answer is what is wanted; fails with the last answer."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if wanted(found):
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {found!r}")
        time.sleep(0.1)  # another process has to act; there is nothing of its to wait on


@dataclass(slots=True)
class Operator:
    """One replica of the operator."""

    plane: ControlPlane
    directory: Path
    env: Mapping[str, str]
    namespace: str
    kubeconfig: Path
    name: str = "operator"
    program: Program = field(init=False)

    def start(self) -> None:
        """Start it; `ready` says when it works."""
        self.program = Program(
            self.name,
            [
                str(Path(sys.executable).with_name("postfleet-operator")),
                "run",
                f"--kubeconfig={self.kubeconfig}",
                f"--namespace={self.namespace}",
                "--health-port=0",
            ],
            self.directory / f"{self.name}.log",
            env={**os.environ, **self.env},
        )
        self.program.start()

    def lines(self) -> list[dict[str, Any]]:
        """What it logged."""
        found = []
        for line in self.program.log.read_text(errors="replace").splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                found.append({"event": line})
        return found

    def logged(self, event: str) -> list[dict[str, Any]]:
        """The lines of one event."""
        return [line for line in self.lines() if line.get("event") == event]

    def port(self) -> int | None:
        """Where its health endpoints are."""
        served = self.logged("health_served")
        return served[-1]["port"] if served else None

    def asks(self, path: str) -> tuple[int, str]:
        """Status and body of a health endpoint; 0 while there is no answer."""
        port = self.port()
        if port is None:
            return 0, "no port yet"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def ready(self) -> None:
        """Wait until it is."""
        eventually(lambda: (self.asks("/readyz"), self.program.tail()), lambda found: found[0][0] == 200)

    def leads(self) -> bool:
        """Whether it won the lead last."""
        turns = [line["event"] for line in self.lines() if line.get("event") in ("lead_won", "lead_lost")]
        return turns[-1:] == ["lead_won"]

    def stop(self) -> int:
        """SIGTERM; its exit code."""
        process = self.program.process
        assert process is not None
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            return process.wait(20)
        except subprocess.TimeoutExpired:
            self.program.kill()
            raise AssertionError(f"it did not end: {self.program.tail()}") from None


def pool(name: str = "email", **spec: Any) -> dict[str, Any]:
    """A JobPool."""
    return {
        "apiVersion": "postfleet.io/v1alpha1",
        "kind": "JobPool",
        "metadata": {"name": name},
        "spec": {"queues": ["priority-high", "retry"], **spec},
    }


def node(name: str = "acme-1", **spec: Any) -> dict[str, Any]:
    """A SendingNode."""
    return {
        "apiVersion": "postfleet.io/v1alpha1",
        "kind": "SendingNode",
        "metadata": {"name": name},
        "spec": {
            "smtp": {"host": "127.0.0.1", "port": 2525, "tls": "None"},
            "identity": {"domain": "a.example"},
            **spec,
        },
    }
