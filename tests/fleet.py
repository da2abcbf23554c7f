"""Real `postfleet` processes for the tests: start, signal, wait; their logs are shown when a wait runs out."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, text

POSTFLEET = str(Path(sys.executable).with_name("postfleet"))
TESTS = Path(__file__).parent


class Process:
    """One `postfleet …` command with a health port."""

    def __init__(self, name: str, args: list[str], env: dict[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        # Port 0: one that was free a moment ago may be an outgoing connection's by now. The process says what it got.
        environment = {**os.environ, **env, "POSTFLEET_HEALTH_PORT": "0", "POSTFLEET_REPLICA": name}
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                [POSTFLEET, *args], env=environment, stdout=out, stderr=out, stdin=subprocess.DEVNULL
            )

    @property
    def pid(self) -> int:
        return self.popen.pid

    def children(self) -> list[int]:
        path = Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    @property
    def port(self) -> int | None:
        """Of its health endpoints, once it has one."""
        found = re.search(r'"port": (\d+), "event": "health"', self.log.read_text(errors="replace"))
        return int(found.group(1)) if found else None

    def ready(self) -> bool:
        if self.popen.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.popen.returncode}: {self.tail()}")
        port = self.port
        if port is None:
            return False
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=1) as answer:
                return answer.status == 200
        except (urllib.error.URLError, OSError):
            return False

    def signal(self, number: signal.Signals) -> None:
        """To the parent and its children, as a frozen or killed pod would get it."""
        for pid in [self.pid, *self.children()]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        self.popen.wait(10)

    def stop(self, seconds: float = 30) -> int:
        self.popen.terminate()
        return self.popen.wait(seconds)

    def tail(self, lines: int = 12) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class Fleet:
    """Processes on one database and one Redis; all of them end with the test."""

    def __init__(self, folder: Path, engine: Engine, env: dict[str, str]) -> None:
        self.folder = folder
        self.engine = engine
        self.env = env
        self.processes: list[Process] = []

    def start(self, *args: str, env: dict[str, str] | None = None, wait: bool = True) -> Process:
        name = f"{args[0]}-{len(self.processes)}"
        process = Process(name, list(args), {**self.env, **(env or {})}, self.folder / f"{name}.log")
        self.processes.append(process)
        if wait:
            self.until(process.ready, f"{name} ready")
        return process

    def worker(self, queues: str, threads: int = 4, env: dict[str, str] | None = None, **options: Any) -> Process:
        extra = [f"--{key.replace('_', '-')}={value}" for key, value in options.items()]
        return self.start("worker", f"--queues={queues}", f"--threads={threads}", *extra, env=env)

    def relay(self, env: dict[str, str] | None = None) -> Process:
        return self.start("relay", env=env)

    def until(self, condition: Callable[[], Any], what: str, seconds: float = 40) -> Any:
        """Poll a condition; its last truthy value. The deadline only bounds a failing test."""
        deadline = time.monotonic() + seconds
        while True:
            if value := condition():
                return value
            if time.monotonic() > deadline:
                logs = "\n".join(f"--- {p.name}\n{p.tail()}" for p in self.processes)
                raise AssertionError(f"not within {seconds} s: {what}\nstates: {self.states()}\n{logs}")
            time.sleep(0.05)

    def rows(self, sql: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.execute(text(sql), values))

    def execute(self, sql: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(text(sql), values)

    def states(self) -> dict[str, int]:
        return dict(tuple(row) for row in self.rows("SELECT state, count(*) FROM jobs GROUP BY 1"))

    def settled(self, seconds: float = 40) -> dict[str, int]:
        """Wait until no job is unfinished; the states."""
        self.until(lambda: not set(self.states()) - {"completed", "cancelled", "discarded"}, "all jobs final", seconds)
        return self.states()

    def close(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.kill()
