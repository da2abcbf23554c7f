"""Servers that refuse our login or whose TLS is not to be trusted: the mail waits, and nobody hammers."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from sqlalchemy import Engine

from mail_bench import NODE, Bench
from mail_lab import Lab
from postfleet_workers.jobs import Done, Snooze
from postfleet_workers.mail.credentials import Credentials
from smtp_lab import running


def give(folder: Path, password: str) -> None:
    """The node's login as a Secret is mounted; with the line ends that people leave in one."""
    (folder / f"{NODE}.username").write_text("ann\n")
    (folder / f"{NODE}.password").write_text(f"{password}\n")


@pytest.mark.parametrize("fault", ["password", "certificate", "no-tls"])
def test_our_own_faults_use_no_attempt_and_the_server_is_asked_once(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path, fault: str
) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    give(tmp_path, "wrong")
    kind = "login_refused" if fault == "password" else "tls_failed"
    with (
        running(Lab(login=("ann", "secret"), tls=context if fault == "certificate" else None)) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path))) as bench,
    ):
        bench.node(lab.port, login=True, tls="None" if fault == "password" else "StartTLS")
        bench.enqueue("a@b.example", "c@b.example")
        for found in (bench.run(), *(bench.run_again() for _ in range(4))):
            assert [(type(o), getattr(o, "kind", "")) for o in found] == [(Snooze, kind)] * 2
            assert [o.seconds for o in found if isinstance(o, Snooze)] == [5, 5]
        assert bench.statuses() == ["queued", "queued"]
        assert [(job["state"], job["attempt"]) for job in bench.jobs()] == [("scheduled", 0)] * 2
        assert (lab.connections, lab.accepted) == (1, [])
        (attempt,) = bench.attempts()
        assert (attempt["phase"], attempt["outcome"], attempt["scope"]) == (
            "auth" if fault == "password" else "starttls", "failed", "source",
        )  # fmt: skip
        assert "wrong" not in str(bench.jobs()) + str(bench.attempts())


def test_a_login_that_was_changed_at_the_provider_first_is_waited_for(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """Rotated as people do it: the provider at once, the Secret then, and the kubelet a minute or two later."""
    for version, password in (("v1", "old-pass"), ("v2", "new-pass")):
        (tmp_path / version).mkdir()
        give(tmp_path / version, password)
    mounted = tmp_path / "mounted"
    mounted.symlink_to("v1")
    with (
        running(Lab(login=("ann", "old-pass"))) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(mounted))) as bench,
    ):
        bench.node(lab.port, login=True, messagesPerConnection=1)
        bench.enqueue("before@b.example")
        bench.run()
        lab.login = ("ann", "new-pass")
        bench.enqueue(*(f"u{i}@b.example" for i in range(3)))
        for found in (bench.run(), *(bench.run_again() for _ in range(20))):
            assert [type(o) for o in found] == [Snooze] * 3
        connections = lab.connections
        (tmp_path / "next").symlink_to("v2")
        (tmp_path / "next").rename(mounted)
        assert [type(o) for o in bench.run_again()] == [Done] * 3
        assert connections == 2  # one that took mail, one that was refused
        assert [(job["state"], job["attempt"]) for job in bench.jobs()] == [("completed", 1)] * 4
        assert [row["deferrals"] for row in bench.emails()] == [0] * 4
        assert [m.recipient for m in lab.accepted] == ["before@b.example", *(f"u{i}@b.example" for i in range(3))]


def test_sessions_that_are_open_go_on_while_a_new_one_is_refused(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    give(tmp_path, "old-pass")
    with (
        running(Lab(login=("ann", "old-pass"))) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path))) as bench,
    ):
        bench.node(lab.port, login=True)
        bench.enqueue("a@b.example")
        bench.run()
        lab.login = ("ann", "new-pass")
        bench.enqueue("c@b.example")
        assert [type(o) for o in bench.run()] == [Done]


def test_threads_that_start_with_a_wrong_login_offer_it_once(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    give(tmp_path, "wrong")
    with (
        running(Lab(login=("ann", "secret"))) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path), session_wait_seconds=10)) as bench,
    ):
        bench.node(lab.port, login=True)
        bench.enqueue(*(f"u{i}@b.example" for i in range(8)))
        jobs, run = bench.claim()
        found: list[Any] = []
        threads = [threading.Thread(target=lambda job=job: found.extend(bench.perform([job], run))) for job in jobs]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert [o.kind for o in found] == ["login_refused"] * 8
        assert lab.connections == 1


def test_threads_do_not_wait_one_by_one_for_a_server_that_is_away(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    """One thread tries at a time, as the login may be wrong; the others' mail waits until later, untried."""
    give(tmp_path, "secret")
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path), session_wait_seconds=10)) as bench,
    ):
        bench.node(listener.getsockname()[1], login=True)
        bench.enqueue(*(f"u{i}@b.example" for i in range(6)))
        jobs, run = bench.claim()
        tried: list[Any] = []
        for found in (1, 2):
            thread = threading.Thread(target=lambda n=found: tried.extend(bench.perform([jobs[n - 1]], run)))
            thread.start()
            silent, _ = listener.accept()
            with silent:
                others = bench.perform(jobs[2:], run) if found == 2 else []
            thread.join(10)
        assert [(o.kind, o.record is None) for o in tried] == [("deferred", False)] * 2
        assert [(type(o), getattr(o, "kind", ""), getattr(o, "record", "")) for o in others] == [
            (Snooze, "node_unreachable", None)
        ] * 4


def test_a_login_that_a_kubelet_has_yet_to_bring_is_waited_for(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    with (
        running(Lab(login=("ann", "secret"))) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path))) as bench,
    ):
        bench.node(lab.port, login=True)
        bench.enqueue("a@b.example")
        for found in (bench.run(), bench.run_again(), bench.run_again(), bench.run_again()):
            [outcome] = found
            assert isinstance(outcome, Snooze)
            assert (outcome.seconds, outcome.kind) == (5.0, "login_missing")
        give(tmp_path, "secret")
        assert isinstance(bench.run_again()[0], Done)
        (job,) = bench.jobs()
        assert (job["state"], job["attempt"], len(lab.accepted)) == ("completed", 1, 1)


def test_mended_credentials_are_read_without_a_restart(
    engine: Engine, redis_client: redis.Redis, tmp_path: Path
) -> None:
    give(tmp_path, "wrong")
    with (
        running(Lab(login=("ann", "secret"))) as lab,
        closing(Bench(engine, redis_client, credentials=Credentials(tmp_path))) as bench,
    ):
        bench.node(lab.port, login=True)
        bench.enqueue("a@b.example")
        bench.run()
        assert bench.statuses() == ["queued"]
        give(tmp_path, "secret")
        bench.run_again()
        assert bench.statuses() == ["sent"]
