"""Running `postfleet` in a test: in this process (fast), or as a program of its own (what a person gets)."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from postfleet_workers import cli


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


class Command:
    """`postfleet` on one database."""

    def __init__(self, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("POSTFLEET_DATABASE_URL", database_url)
        monkeypatch.setenv("POSTFLEET_REDIS_URL", "redis://127.0.0.1:1/0")

    def __call__(self, *args: str | Path | int) -> Answer:
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            code = cli.run([str(arg) for arg in args])
        return Answer(code, out.getvalue(), err.getvalue())


def program(*args: str, env: dict[str, str]) -> Answer:
    """The installed script with exactly these `POSTFLEET_` variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTFLEET_")}
    script = Path(sys.executable).with_name("postfleet")
    done = subprocess.run(
        [script, *args], env={**clean, **env}, capture_output=True, text=True, timeout=60, check=False
    )
    return Answer(done.returncode, done.stdout, done.stderr)
