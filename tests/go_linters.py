"""The linters of tests/images/lint, by Go."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

LINT = Path(__file__).parent / "images/lint"


class Linters:
    """Programs of the Go module, pinned there; Go keeps what it built."""

    def dockerfile(self, file: Path) -> str:
        """What BuildKit says of a Dockerfile, as JSON."""
        return self._run("run", ".", str(file))

    def workflow(self, file: Path) -> str:
        """What actionlint says of a workflow; empty if nothing."""
        return self._run("tool", "actionlint", "-no-color", str(file))

    def _run(self, *words: str) -> str:
        env = {**os.environ, "GOFLAGS": "-mod=readonly -buildvcs=false", "CGO_ENABLED": "0"}
        done = subprocess.run(
            ["go", *words], cwd=LINT, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
