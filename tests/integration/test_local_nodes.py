"""Sending nodes in a local fleet: real mail through shared workers and a Dedicated node's own."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import text

from postfleet_local import routing, tally
from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import QUICKSTART_MANIFESTS, Home, quickstart
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.store.session import engine_for

SECONDS = 60.0

EU = """
apiVersion: postfleet.io/v1alpha1
kind: SendingNode
metadata: {name: eu-1}
spec:
  smtp: {host: mx.eu.example, credentialsSecretRef: {name: eu-1-smtp}}
  identity: {domain: eu.example}
  limits: {perDay: 1000000}
  workers:
    poolRef: {name: email}
    placement: Dedicated
    nodeSelector: {place: eu}
---
apiVersion: v1
kind: Secret
metadata: {name: eu-1-smtp}
stringData: {username: eu, password: secret}
"""
SHARED = EU.replace("    placement: Dedicated\n    nodeSelector: {place: eu}\n", "")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    folder.mkdir()
    for name in QUICKSTART_MANIFESTS:
        (folder / name).write_text((quickstart() / name).read_text())
    pool = (folder / "pool.yaml").read_text()
    (folder / "pool.yaml").write_text(
        pool.replace("minReplicas: 0", "minReplicas: 1").replace("threads: 32", "threads: 4")
    )
    (folder / "eu.yaml").write_text(EU)
    return folder


@pytest.fixture
def fleet(tmp_path: Path, folder: Path) -> Iterator[Fleet]:
    options = Options(
        sources=(folder,),
        sink_port=None,
        route=routing.to_sink,
        sink_delay_seconds=(0.02, 0.05),
        settings={"POSTFLEET_BACKOFF_BASE_SECONDS": "0.2"},
    )
    with Home(tmp_path / "fleet") as home, Fleet(home, options, lambda _: None) as fleet:
        yield fleet


def wait_until(predicate: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + SECONDS
    while not predicate():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def send(fleet: Fleet, node: str, *names: str) -> None:
    engine = engine_for(fleet.database_url, connections=1, application_name="test")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('acme') ON CONFLICT DO NOTHING"))
        for name in names:
            mail = NewEmail(
                tenant="acme", node=node, sender="a@acme.example", to=f"{name}@example.org", subject="s", text="t"
            )
            send_email(connection, mail)
    engine.dispose()


def arrived(fleet: Fleet) -> set[str]:
    assert fleet.sink is not None
    return {mail.recipient.partition("@")[0] for mail in tally.read(fleet.sink.mails)}


def senders(fleet: Fleet) -> dict[str, str]:
    """Which Deployment sent the mail to each name."""
    with psycopg.connect(fleet.database_url) as connection:
        rows = connection.execute(
            "SELECT split_part(e.recipient, '@', 1), w.replica FROM email_attempts a"
            " JOIN emails e ON e.id = a.email_id JOIN workers w ON w.id = a.worker WHERE a.outcome = 'sent'"
        ).fetchall()
    return {name: replica.rsplit("-", 2)[0] for name, replica in rows}


def workers(fleet: Fleet, name: str) -> list[psutil.Process]:
    status = fleet.processes.status(name)
    ready = status is not None and status.ready == status.replicas == len(status.pids) > 0
    return [psutil.Process(pid) for pid in status.pids.values()] if status is not None and ready else []


def status(fleet: Fleet, node: str) -> dict[str, Any]:
    file = fleet.home.directory / "status" / f"node-{node}.json"
    return json.loads(file.read_text()) if file.exists() else {}


def condition(fleet: Fleet, node: str, kind: str) -> str | None:
    found = {each["type"]: str(each["reason"]) for each in status(fleet, node).get("conditions", [])}
    return found.get(kind)


def test_a_dedicated_node_sends_through_workers_of_its_own_and_becomes_shared_again(fleet: Fleet, folder: Path) -> None:
    wait_until(lambda: workers(fleet, "email") and workers(fleet, "email-eu-1"), "workers of both kinds")
    (own,), (shared,) = workers(fleet, "email-eu-1"), workers(fleet, "email")
    env = own.environ()
    assert (env["POSTFLEET_POOL"], env["POSTFLEET_NODE"]) == ("default/email", "eu-1")
    assert "--queues=priority-high.eu-1,campaign-standard.eu-1,warmup.eu-1,retry.eu-1" in own.cmdline()
    seen = {name: files(process) for name, process in (("eu-1", own), ("shared", shared))}
    assert seen == {"eu-1": {"eu-1.username", "eu-1.password"}, "shared": {"acme-1.username", "acme-1.password"}}

    wait_until(lambda: condition(fleet, "eu-1", "Reachable") == "ServerAnswers", "its greeting is read")

    send(fleet, "eu-1", "ann", "bob")
    send(fleet, "acme-1", "cid")
    wait_until(lambda: arrived(fleet) == {"ann", "bob", "cid"}, "every mail arrives")
    wait_until(lambda: len(senders(fleet)) == 3, "and is settled")
    assert senders(fleet) == {"ann": "email-eu-1", "bob": "email-eu-1", "cid": "email"}
    wait_until(lambda: status(fleet, "eu-1").get("acceptedToday") == 2, "it is counted")
    told = status(fleet, "eu-1")
    assert (told["phase"], told["capToday"], told["remainingToday"]) == ("Active", 1_000_000, 999_998)
    assert (told["workers"]["deployment"], told["workers"]["readyReplicas"]) == ("email-eu-1", 1)
    assert "workers" not in status(fleet, "acme-1")

    (folder / "eu.yaml").write_text(SHARED)
    wait_until(lambda: "workers" not in status(fleet, "eu-1"), "the node is shared")
    wait_until(lambda: fleet.processes.status("email-eu-1") is None, "its own workers are not wanted any more")
    wait_until(lambda: not own.is_running(), "and end")
    send(fleet, "eu-1", "dan")
    wait_until(lambda: senders(fleet).get("dan") == "email", "the shared workers send for it")
    assert files(shared) >= {"eu-1.username", "acme-1.username"}


def test_mail_in_flight_survives_every_move_of_its_node(fleet: Fleet, folder: Path) -> None:
    wait_until(lambda: workers(fleet, "email"), "workers")
    expected: set[str] = set()
    moved = threading.Event()

    def stream() -> None:
        number = 0
        while not moved.wait(0.02):
            number += 1
            expected.add(f"m{number}")
            send(fleet, "eu-1", f"m{number}")

    thread = threading.Thread(target=stream)
    thread.start()
    try:
        for manifest in (SHARED, EU, SHARED):
            (folder / "eu.yaml").write_text(manifest)
            wait_until(lambda: len(arrived(fleet)) >= len(expected) - 50, "mail flows")
            before = len(expected)
            wait_until(lambda: len(expected) > before + 40, "and some more")  # noqa: B023
    finally:
        moved.set()
        thread.join()
    wait_until(lambda: arrived(fleet) == expected, "nothing is lost")
    assert fleet.sink is not None
    assert set(tally.copies(tally.read(fleet.sink.mails)).values()) == {1}, "and nothing comes twice"
    with psycopg.connect(fleet.database_url) as connection:
        wait_until(
            lambda: connection.execute("SELECT count(*) FROM jobs WHERE state <> 'completed'").fetchone() == (0,),
            "every job is completed",
        )


def test_mail_of_a_node_that_is_deleted_waits_for_it(fleet: Fleet, folder: Path) -> None:
    wait_until(lambda: workers(fleet, "email-eu-1"), "workers")
    names = {f"m{number}" for number in range(300)}
    send(fleet, "eu-1", *names)
    wait_until(lambda: len(arrived(fleet)) > 20, "mail flows")
    (folder / "eu.yaml").unlink()
    wait_until(lambda: fleet.processes.status("email-eu-1") is None, "its workers go")
    wait_until(lambda: states(fleet).keys() <= {"available", "retryable", "completed"}, "nothing runs any more")
    assert states(fleet).get("completed", 0) == len(arrived(fleet))

    (folder / "eu.yaml").write_text(SHARED)
    wait_until(lambda: arrived(fleet) == names, "nothing is lost")
    wait_until(lambda: states(fleet) == {"completed": 300}, "every job is completed")
    assert fleet.sink is not None
    assert set(tally.copies(tally.read(fleet.sink.mails)).values()) == {1}


def states(fleet: Fleet) -> dict[str, int]:
    with psycopg.connect(fleet.database_url) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM jobs GROUP BY 1").fetchall())


def files(process: psutil.Process) -> set[str]:
    """The credentials that a worker sees."""
    return {file.name for file in Path(process.environ()["POSTFLEET_CREDENTIALS_DIR"]).iterdir() if file.name[0] != "."}
