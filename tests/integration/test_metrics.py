"""What real processes tell Prometheus: a worker of two processes, relays that take turns, mail that was sent."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import redis
from sqlalchemy import Engine

from fleet import Fleet, Process
from integration.test_faults_mail import add_node, mail
from postfleet_workers.enqueue import enqueue_many
from postfleet_workers.jobs import NewJob
from postfleet_workers.metrics.shared import OWNER, PREFIX
from scraping import labelled, reader, scrape, value
from smtp_lab import FaultyLab

TESTS = Path(__file__).parents[1]
PROBE = {"queue": "probe", "type": "probe"}


def add(engine: Engine, count: int, kind: str = "probe", **args: object) -> None:
    with engine.begin() as connection:
        enqueue_many(connection, [NewJob(kind, "probe", args) for _ in range(count)])


def probe(process: Process, path: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{process.port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def folders(parent: Path) -> list[Path]:
    return list(parent.glob(f"{PREFIX}*"))


def test_two_processes_are_told_as_one_and_a_killed_one_takes_no_count_along(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    fleet.relay()
    worker = fleet.worker("probe", threads=2, processes=2, shutdown_timeout=30, env={"TMPDIR": str(tmp_path)})
    add(engine, 300)
    add(engine, 20, do="transient")
    assert fleet.settled() == {"completed": 300, "discarded": 20}
    told = reader(worker)
    fleet.until(lambda: told("jobs_completed_total", **PROBE) == 300, "every job counted")
    fleet.until(lambda: told("jobs_failed_total", **PROBE, outcome="discarded") == 20, "every dead letter counted")
    assert told("jobs_failed_total", **PROBE, outcome="retryable") == 40
    assert told("job_wait_seconds_count", queue="probe") == 360
    assert told("job_run_seconds_count", type="probe") == 360
    assert told("worker_threads") == 4
    age = told("worker_lease_age_seconds")
    assert age is not None
    assert 0 <= age < 3

    add(engine, 4, "probe.single", do="wait")
    fleet.until(lambda: fleet.states().get("executing") == 4, "every thread of both processes is busy")
    victim, _ = worker.children()
    os.kill(victim, signal.SIGKILL)
    fleet.until(lambda: probe(worker, "/healthz")[0] == 503, "the loss shows")
    assert probe(worker, "/healthz")[1] in {"worker-0 ended\n", "worker-1 ended\n"}
    fleet.until(lambda: told("worker_threads") == 2, "the dead process' threads are gone")
    assert told("jobs_completed_total", **PROBE) == 300
    assert told("job_run_seconds_count", type="probe") == 360
    [folder] = folders(tmp_path)
    assert len(list(folder.glob("counter_*.db"))) == 2
    assert len(list(folder.glob("gauge_live*.db"))) == 2, "livesum and livemin of the living one"
    for row in fleet.rows("SELECT id FROM jobs WHERE state = 'executing'"):
        redis_client.rpush(f"probe:release:{row.id}", "go")
    assert worker.popen.wait(20) == 1
    assert folders(tmp_path) == []


def test_processes_that_come_and_go_add_up() -> None:
    """Counters of the dead stay, through every restart; gauges are those of the living."""
    program = subprocess.run(
        [sys.executable, str(TESTS / "integration/shared_metrics_program.py")],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert program.returncode == 0, program.stderr
    before, one, killed, buried, killed_again, buried_again = map(json.loads, program.stdout.splitlines())
    assert before == {}
    ages = [page.pop("worker_lease_age_seconds") for page in (one, killed, buried, killed_again, buried_again)]
    assert one == {"job_run_seconds_count": 2, "worker_threads": 4}
    assert killed == {"job_run_seconds_count": 4, "worker_threads": 8}
    assert buried == {"job_run_seconds_count": 4, "worker_threads": 4}
    assert killed_again == {"job_run_seconds_count": 6, "worker_threads": 8}
    assert buried_again == {"job_run_seconds_count": 6, "worker_threads": 4}
    assert [age >= 100 for age in ages] == [False, True, False, True, False], "the worst of those that live"


def test_a_killed_workers_folder_is_removed_by_the_next_one(fleet: Fleet, tmp_path: Path) -> None:
    where = {"TMPDIR": str(tmp_path)}
    killed = fleet.worker("probe", threads=1, env=where)
    living = fleet.worker("probe", threads=1, env=where)
    killed.kill()
    assert len(folders(tmp_path)) == 2
    fleet.worker("probe", threads=1, env=where).stop()
    [left] = folders(tmp_path)
    assert (left / OWNER).exists()
    assert value(scrape(living), "worker_threads") == 1


def test_a_relay_tells_of_its_queues_and_the_one_that_stands_by_of_none(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    add(engine, 50)
    fleet.execute(
        "INSERT INTO jobs (type, queue, state, finished_at) SELECT 'probe', 'probe', 'discarded', now() FROM "
        "generate_series(1, 3)"
    )
    fleet.execute("INSERT INTO jobs (type, queue, state, run_at) VALUES ('probe', 'probe', 'scheduled', now() + '1 h')")
    fleet.execute("INSERT INTO tenants (name, paused) VALUES ('acme', true)")
    fleet.execute("INSERT INTO jobs (type, queue, tenant) SELECT 'probe', 'probe', 'acme' FROM generate_series(1, 7)")
    active = fleet.relay()
    told = reader(active)
    fleet.until(lambda: told("jobs_ready", queue="probe") == 50, "ready jobs told")
    assert told("jobs_inflight", queue="probe") == 0
    assert told("jobs_overdue", queue="probe") == 0
    assert told("jobs_discarded", queue="probe") == 3
    assert told("jobs_scheduled", queue="probe") == 1
    assert told("jobs_throttled", queue="probe", limit="tenant_paused") == 7
    assert told("emails_unknown") == 0
    assert (told("queue_oldest_ready_seconds", queue="probe") or 0) > 0
    lag = told("relay_lag_seconds")
    assert lag is not None
    assert lag < 5
    assert "acme" not in str(scrape(active)), "no tenant is named"

    other = fleet.relay()
    assert value(scrape(other), "relay_queues") == 0
    assert labelled(scrape(other), "queue") == set()
    worker = fleet.worker("probe", threads=4)
    fleet.until(lambda: fleet.states().get("completed") == 50, "all done")
    fleet.until(lambda: told("jobs_ready", queue="probe") == 0, "nothing waits")
    assert (told("relay_published_jobs_total", queue="probe") or 0) >= 50

    add(engine, 2, "probe.single", do="wait")
    fleet.until(lambda: told("jobs_inflight", queue="probe") == 2, "two are executed")
    worker.kill()
    fleet.until(lambda: told("jobs_rescued_total", queue="probe") == 2, "both rescued")

    # Its session ends, and with it its lock: the other one takes the queue over, unless it is quicker itself.
    os.kill(active.pid, signal.SIGSTOP)
    fleet.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = :name",
        name="postfleet-lease relay-0",
    )
    fleet.until(lambda: value(scrape(other), "relay_queues") == 1, "the other relay serves the queue")
    assert value(scrape(other), "jobs_ready", queue="probe") is not None
    os.kill(active.pid, signal.SIGCONT)
    fleet.until(lambda: told("relay_queues") == 0, "the first one stands by")
    page = scrape(active)
    gone = {
        "jobs_ready",
        "jobs_inflight",
        "jobs_overdue",
        "jobs_discarded",
        "queue_oldest_ready_seconds",
        "jobs_throttled",
    }
    assert {name for name, _ in page} & gone == set()
    assert value(page, "jobs_rescued_total", queue="probe") == 2, "what it counted stays"


def test_emails_are_counted_by_node(fleet: Fleet, engine: Engine) -> None:
    lab = FaultyLab()
    try:
        add_node(engine, "n1", lab.port, perMinute=6000)
        relay = fleet.relay()
        worker = fleet.worker("priority-high,campaign-standard,retry", threads=2)
        mail(engine, 30)
        fleet.until(lambda: value(scrape(worker), "emails_sent_total", node="n1", site="other") == 30, "30 mails sent")
        told = reader(worker)
        assert told("jobs_completed_total", queue="campaign-standard", type="email.send") == 30
        assert (told("job_wait_seconds_sum", queue="campaign-standard") or 0) > 0
        mail(engine, 1, queue="priority-high")
        fleet.until(lambda: told("job_wait_seconds_count", queue="priority-high") == 1, "the urgent one too")
        assert "example.org" not in str(scrape(worker)) + str(scrape(relay))
    finally:
        lab.stop()


def test_a_worker_answers_while_it_waits_for_redis(fleet: Fleet) -> None:
    process = fleet.start("worker", "--queues=probe", wait=False, env={"POSTFLEET_REDIS_URL": "redis://127.0.0.1:1/0"})
    fleet.until(lambda: process.port, "the health port is open")
    assert probe(process, "/readyz") == (503, "1 of 1 processes have not written their first heartbeat\n")
    assert probe(process, "/metrics")[0] == 200
