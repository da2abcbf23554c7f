"""The script of `helm test` against a real fleet."""

from __future__ import annotations

import os
import subprocess
import sys

from charts import CHART

from fleet import Fleet

SCRIPT = (CHART / "files/tests/job.py").read_text()


def run(fleet: Fleet, seconds: int) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(seconds)]
    env = {**os.environ, **fleet.env}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)


def test_the_job_goes_through_relay_and_worker(fleet: Fleet) -> None:
    fleet.relay()
    fleet.worker("priority-high")
    done = run(fleet, 40)
    assert done.returncode == 0, done.stderr
    assert "done after" in done.stdout
    assert fleet.states() == {"completed": 1}
    assert fleet.rows("SELECT count(*) FROM emails") == [(0,)]


def test_without_a_worker_it_fails_and_says_where_the_job_is(fleet: Fleet) -> None:
    done = run(fleet, 1)
    assert done.returncode == 1
    assert "is available after 1 s" in done.stderr
