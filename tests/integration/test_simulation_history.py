"""A trace from the ledger: what arrived when, on a real PostgreSQL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from click.testing import CliRunner

from postfleet_local.stack import free_port
from postfleet_operator.cli import cli
from postfleet_operator.errors import InputError, StoreUnavailable
from postfleet_operator.simulation import history
from unit.operator.building import manifest, pool

HOUR = 3600


def write(database_url: str, statement: str, **values: Any) -> Any:
    with psycopg.connect(database_url) as connection:
        cursor = connection.execute(statement, values)  # type: ignore[call-overload]
        return cursor.fetchone()[0] if cursor.description else None


def job(database_url: str, seconds_ago: float, *, run_ago: float | None = None, **row: Any) -> int:
    """A job created so long ago; it fell due then, or at `run_ago`."""
    columns = {"type": "email.send", "queue": "retry", "state": "completed", "claimed_by": "w"} | row
    names, marks = ", ".join(columns), ", ".join(f"%({name})s" for name in columns)
    statement = f"""INSERT INTO jobs ({names}, created_at, run_at, claimed_at)
        VALUES ({marks}, now() - %(ago)s * interval '1 s', now() - %(run)s * interval '1 s',
                CASE WHEN %(begun)s THEN now() END) RETURNING id"""
    run = seconds_ago if run_ago is None else run_ago
    begun = columns["claimed_by"] is not None
    return int(write(database_url, statement, ago=seconds_ago, run=run, begun=begun, **columns))


def failed(database_url: str, job_id: int, attempt: int, seconds_ago: float, *, fenced: bool = False) -> None:
    write(
        database_url,
        """INSERT INTO job_attempts (job_id, attempt, publication, worker, outcome, fenced, started_at)
           VALUES (%(job)s, %(attempt)s, 1, 'w', 'failed', %(fenced)s, now() - %(ago)s * interval '1 s')""",
        job=job_id,
        attempt=attempt,
        fenced=fenced,
        ago=seconds_ago,
    )


def arrivals(database_url: str, window: int = HOUR) -> list[int]:
    """How many seconds ago something arrived, once per job, oldest first."""
    trace = history.read(database_url, pool(), window).trace
    assert trace.seconds == window
    return [window - second for second, count in trace.rows for _ in range(count)]


def test_jobs_arrive_when_they_are_created_or_fall_due_within_the_window(database_url: str) -> None:
    job(database_url, 100.5)
    job(database_url, 3000.5, run_ago=60.5)
    job(database_url, 20.5, queue="priority-high", state="available", claimed_by=None)
    job(database_url, HOUR + 60)
    job(database_url, 30, run_ago=-600, state="scheduled", claimed_by=None)
    job(database_url, 30, queue="elsewhere")
    assert arrivals(database_url) == pytest.approx([101, 61, 21], abs=1)


def test_every_attempt_is_work_and_none_counts_twice(database_url: str) -> None:
    retried = job(database_url, 500.5, run_ago=200.5, attempt=2)
    failed(database_url, retried, 1, 490.5)
    failed(database_url, retried, 1, 480.5, fenced=True)
    given_up = job(database_url, 400.5, run_ago=100.5, state="discarded", attempt=2)
    failed(database_url, given_up, 1, 390.5)
    failed(database_url, given_up, 2, 90.5)
    assert arrivals(database_url) == pytest.approx([491, 391, 201, 101], abs=1)


def test_what_never_began_before_it_was_cancelled_is_no_work(database_url: str) -> None:
    job(database_url, 50.5, state="cancelled", claimed_by=None)
    job(database_url, 40.5, state="cancelled")
    assert arrivals(database_url) == pytest.approx([41], abs=1)


def test_mail_of_a_dedicated_node_has_workers_of_its_own(database_url: str) -> None:
    write(
        database_url,
        'INSERT INTO sending_nodes (name, spec) VALUES (\'own\', \'{"workers": {"placement": "Dedicated"}}\')',
    )
    job(database_url, 50.5, route="own")
    job(database_url, 45.5, route="own/gmail")
    job(database_url, 40.5, route="shared")
    assert arrivals(database_url) == pytest.approx([41], abs=1)


def test_what_a_job_takes_is_what_the_workers_measured(database_url: str) -> None:
    job(database_url, 50)
    assert history.read(database_url, pool(), HOUR).service_seconds is None
    for name, node in (("a", "shared"), ("b", "own")):
        write(
            database_url,
            """INSERT INTO workers (id, replica, pool, node, queues, threads, completed, busy_seconds, lease_until)
               VALUES (%(name)s, %(name)s, 'default/email', %(node)s, '{retry}', 4, 200, 50, now())""",
            name=name,
            node=node,
        )
    assert history.read(database_url, pool(), HOUR).service_seconds == pytest.approx(0.25)


def test_no_history_is_told(database_url: str) -> None:
    with pytest.raises(InputError, match="email: no job arrived in that time; give a longer --window or other queues"):
        history.read(database_url, pool(), 60)


def test_a_database_that_is_not_there_is_told_in_one_line() -> None:
    with pytest.raises(StoreUnavailable, match="PostgreSQL: connection") as caught:
        history.read(f"postgresql://nobody@127.0.0.1:{free_port()}/none", pool(), 60)
    assert "\n" not in str(caught.value)


def test_the_command_replays_it(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job(database_url, 50)
    monkeypatch.setenv("POSTFLEET_DATABASE_URL", database_url)
    (tmp_path / "pool.yaml").write_text(yaml.safe_dump(manifest()))
    arguments = ["simulate", "-f", str(tmp_path / "pool.yaml"), "--from-database", "--window", "10m", "--json"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["trace"] == {"name": "email", "seconds": 600, "jobs": 1}
