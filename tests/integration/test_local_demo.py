"""The demo, small: a real campaign over real SMTP, judged at the server."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
import redis

from mail_lab import Lab
from postfleet_local.home import quickstart
from postfleet_local.tally import copies, read
from smtp_lab import running

LOCAL = str(Path(sys.executable).with_name("postfleet-local"))
EMAILS = 60
FIELDS = [
    "emails", "delivered", "lost", "duplicated", "unknown", "seconds", "emails_per_minute", "wait_p50_seconds",
    "wait_p99_seconds", "priority_wait_p50_seconds", "priority_wait_p99_seconds", "replicas_peak", "replicas_end",
]  # fmt: skip


@pytest.fixture
def pool(tmp_path: Path) -> Path:
    """The quickstart's pool, in a hurry to shrink."""
    text = (quickstart() / "pool.yaml").read_text()
    for old, new in (("cooldownSeconds: 10", "cooldownSeconds: 1"), ("threads: 32", "threads: 8")):
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "pool.yaml").write_text(text)
    return tmp_path / "pool.yaml"


def demo(*arguments: str) -> tuple[int, dict[str, float], str]:
    done = subprocess.run(
        [LOCAL, "demo", "--emails", str(EMAILS), "--json", *arguments], capture_output=True, text=True, timeout=110
    )
    assert done.stdout.count("\n") == 1, done.stderr
    line = done.stdout
    return done.returncode, json.loads(line), done.stderr


def test_every_mail_arrives_once_and_workers_come_and_go(tmp_path: Path, pool: Path) -> None:
    home = tmp_path / "demo"
    code, summary, progress = demo("--pool", str(pool), "--dir", str(home))
    assert code == 0, progress
    assert list(summary) == FIELDS
    assert summary["emails"] == summary["delivered"] > EMAILS
    assert (summary["lost"], summary["duplicated"], summary["unknown"]) == (0, 0, 0)
    assert summary["replicas_peak"] >= 1
    assert summary["replicas_end"] == 0
    assert len(copies(read(home / "sink.log"))) == summary["delivered"]
    assert f"report: {home}/report.html" in progress
    assert "Every mail arrived, once" in (home / "report.html").read_text()


def test_a_server_of_the_user_s_gets_the_mail_and_the_ledger_judges(tmp_path: Path, pool: Path) -> None:
    with running(Lab()) as server:
        code, summary, progress = demo(
            "--pool", str(pool), "--dir", str(tmp_path / "demo"), "--smtp", f"127.0.0.1:{server.port}", "--tracking"
        )
    assert code == 0, progress
    assert summary["emails"] == summary["delivered"] == len(server.accepted)
    assert (summary["lost"], summary["duplicated"]) == (0, 0)
    campaign = [mail for mail in server.accepted if b"List-Unsubscribe: <http://127.0.0.1:" in mail.data]
    assert len(campaign) == EMAILS, "mails link to the fleet's own web"
    assert all(re.search(rb"/o/[\w=\r\n-]+\.gif", mail.data) for mail in campaign)


@pytest.mark.faults
def test_a_killed_worker_and_a_flushed_redis_lose_nothing_and_send_nothing_twice(tmp_path: Path, pool: Path) -> None:
    home = tmp_path / "demo"
    outsider = threading.Thread(target=interfere, args=(home,))
    outsider.start()
    code, summary, progress = demo("--pool", str(pool), "--dir", str(home), "--emails", "400")
    outsider.join()
    assert code == 0, progress
    assert (summary["lost"], summary["duplicated"]) == (0, 0)
    assert summary["delivered"] + summary["unknown"] == summary["emails"] > 400


def interfere(home: Path) -> None:
    """Kill a worker once mail flows, then flush Redis."""
    deadline = time.monotonic() + 60
    while not copies(read(home / "sink.log")):
        assert time.monotonic() < deadline, "no mail flows"
        time.sleep(0.1)
    variables = dict(line.split("=", 1) for line in (home / "env").read_text().splitlines())
    os.kill(worker_of(variables["POSTFLEET_DATABASE_URL"]), signal.SIGKILL)
    with redis.Redis.from_url(variables["POSTFLEET_REDIS_URL"]) as client:
        client.flushall()


def worker_of(database_url: str) -> int:
    for process in psutil.process_iter():
        try:
            if "worker" in process.cmdline() and process.environ().get("POSTFLEET_DATABASE_URL") == database_url:
                return process.pid
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
    raise AssertionError("no worker runs")
