"""The script of `helm test` against a real fleet."""

from __future__ import annotations

import os
import subprocess
import sys

from charts import CHART

from fleet import Fleet

SCRIPT = (CHART / "files/tests/job.py").read_text()


def run(fleet: Fleet, seconds: int, **more: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", SCRIPT, str(seconds)]
    env = {**os.environ, **fleet.env, **more}
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


def test_a_database_that_is_still_on_its_way_is_waited_for_until_the_end(fleet: Fleet) -> None:
    done = run(fleet, 1, POSTFLEET_DATABASE_URL="postgresql://u:p@127.0.0.1:1/none")
    assert done.returncode == 1
    assert done.stderr.startswith("after ")
    assert "Traceback" not in done.stderr


def test_a_schema_that_comes_late_is_waited_for(fleet: Fleet) -> None:
    fleet.relay()
    fleet.worker("priority-high")
    fleet.execute("ALTER TABLE jobs RENAME TO later")
    command = [sys.executable, "-c", SCRIPT, "40"]
    env = {**os.environ, **fleet.env}
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as script:
        fleet.until(
            lambda: fleet.rows("SELECT 1 FROM pg_stat_activity WHERE application_name = 'postfleet-test'"), "a look"
        )
        fleet.execute("ALTER TABLE later RENAME TO jobs")
        out, err = script.communicate(timeout=60)
    assert script.returncode == 0, err
    assert "done after" in out
