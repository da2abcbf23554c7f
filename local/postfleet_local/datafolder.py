"""What an earlier PostgreSQL may have left behind in a data folder, and beside it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psutil

from postfleet_local.errors import StackError

CLOCK_SECONDS = 2.0


def fresh(directory: Path) -> Path:
    """An empty folder beside `directory` to initialise it in; what earlier, unfinished attempts left there goes.

    It takes the place of `directory` once it is complete: a folder is a finished one, or is not there.
    """
    for left in directory.parent.glob(f"{directory.name}.new-*"):
        shutil.rmtree(left, ignore_errors=True)
    folder = directory.with_name(f"{directory.name}.new-{os.getpid()}")
    folder.mkdir(parents=True)
    return folder


def settle_pid_file(directory: Path, seconds: float = 20.0) -> None:
    """Let a `postmaster.pid` of the past not keep a new server from starting.

    A server that is just being stopped is waited for. A pid that another process has by now is replaced by ours:
    PostgreSQL takes its parent's pid for a stale one, and still looks for orphaned backends, which it could not do
    without the file.

    Raises:
        StackError: a server still runs in the folder after so many seconds.
    """
    file = directory / "postmaster.pid"
    try:
        pid, *rest = file.read_text().splitlines(keepends=True)
        written_at = file.stat().st_mtime
        process = psutil.Process(int(pid))
        gone = process.status() == psutil.STATUS_ZOMBIE or process.name() != "postgres"
    except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
        return
    if gone or process.create_time() > written_at + CLOCK_SECONDS:
        file.write_text("".join([f"{os.getpid()}\n", *rest]))
        return
    try:
        process.wait(seconds)
    except psutil.TimeoutExpired:
        raise StackError(f"another PostgreSQL, pid {process.pid}, runs in {directory}: stop it first") from None
