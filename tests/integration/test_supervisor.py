"""How the parent of the worker processes ends."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import os, pathlib, re, signal, sys, time
from postfleet_workers.settings import Settings
from postfleet_workers.worker.supervisor import supervise

def listens(pid):
    status = pathlib.Path(f"/proc/{{pid}}/status").read_text()
    return int(re.search(r"SigCgt:\\s*(\\w+)", status)[1], 16) >> (signal.SIGTERM - 1) & 1

def booting(on_ready):
    while not listens(os.getppid()):
        time.sleep(0.01)
    os.kill({told}, signal.SIGTERM)
    signal.pause()

settings = Settings(database_url="postgresql://h/d", redis_url="redis://h", health_port=0)
sys.exit(supervise(settings, 2, booting))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks /proc whether the parent listens")
@pytest.mark.parametrize(("told", "code"), [("os.getppid()", 0), ("os.getpid()", 1)], ids=["all of it", "a process"])
def test_processes_that_end_while_they_boot(told: str, code: int) -> None:
    """Told to with their parent they end well: nothing had begun. One that ends alone has failed."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(told=told)], capture_output=True, timeout=60, check=False
    )
    assert done.returncode == code, done.stderr
