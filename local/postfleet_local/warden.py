"""A small process that outlives a crashed fleet just long enough to end what the fleet had started.

The fleet writes `watch PID CREATED STAGE SIGNAL` and `forget PID` to its standard input. When the pipe closes, however
the fleet ended (kill -9 too), the warden ends what is still watched, stage by stage: workers first, then the servers
they talk to. A pid counts only with the start time it was registered with, so a recycled one is never hit.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import psutil

GRACE_SECONDS = 8.0


@dataclass(frozen=True, slots=True)
class Ward:
    """A watched process: the leader of its own group. Lower stages are ended first."""

    pid: int
    created: float
    stage: int
    signal: int


def read(lines: Iterable[str]) -> list[Ward]:
    """Follow the fleet's lines to their end; returns what is still watched then."""
    wards: dict[int, Ward] = {}
    for line in lines:
        match line.split():
            case ["watch", pid, created, stage, number]:
                wards[int(pid)] = Ward(int(pid), float(created), int(stage), int(number))
            case ["forget", pid]:
                wards.pop(int(pid), None)
            case _:
                continue
    return sorted(wards.values(), key=lambda ward: ward.stage)


def end(wards: list[Ward]) -> None:
    """End the processes, one stage after the other: their signal, a grace, then SIGKILL to the whole group."""
    for stage in sorted({ward.stage for ward in wards}):
        alive = [(ward, process) for ward in wards if ward.stage == stage and (process := _process(ward)) is not None]
        for ward, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(ward.pid, ward.signal)
        psutil.wait_procs([process for _, process in alive], timeout=GRACE_SECONDS)
        for ward, _ in alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(ward.pid, signal.SIGKILL)


def _process(ward: Ward) -> psutil.Process | None:
    try:
        process = psutil.Process(ward.pid)
        return process if abs(process.create_time() - ward.created) < 1 else None
    except psutil.NoSuchProcess:
        return None


class Warden:
    """The fleet's side of the pipe. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "postfleet_local.warden"],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            cwd="/", text=True,
        )  # fmt: skip

    def watch(self, pid: int, *, stage: int, number: signal.Signals = signal.SIGTERM) -> None:
        """End this group leader should the fleet die before it says `forget`."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self._say(f"watch {pid} {psutil.Process(pid).create_time()} {stage} {number.value}")

    def forget(self, pid: int) -> None:
        """The process has ended."""
        self._say(f"forget {pid}")

    def __enter__(self) -> Self:
        """Keep watch until the block ends."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """See `close`."""
        self.close()

    def close(self) -> None:
        """End what is still watched, and the warden."""
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
        self._process.wait()

    def _say(self, line: str) -> None:
        with self._lock, contextlib.suppress(BrokenPipeError, ValueError):
            stdin = self._process.stdin
            if stdin is not None:
                stdin.write(line + "\n")
                stdin.flush()


def main() -> None:
    """Run until the fleet has gone; signals meant for the fleet do not end its warden."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    end(read(sys.stdin))


if __name__ == "__main__":
    main()
