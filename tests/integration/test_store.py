from __future__ import annotations

import os
import socket
import subprocess

from sqlalchemy import Engine, text

from fleet import POSTFLEET
from postfleet_workers.store import migrate


def test_a_fresh_database_is_at_the_newest_revision(engine: Engine) -> None:
    assert migrate.current(engine) == migrate.newest()


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    assert migrate.current(engine) == migrate.newest()


def test_a_schema_of_a_later_version_is_left_as_it_is(engine: Engine, database_url: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    done = subprocess.run(
        [POSTFLEET, "migrate"],
        env={**os.environ, "POSTFLEET_DATABASE_URL": database_url},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "schema at 9999, newer than this version: left as it is\n"
    assert migrate.current(engine) == "9999"


def test_a_server_that_acknowledges_nothing_is_given_up_after_half_a_minute(engine: Engine) -> None:
    with engine.connect() as connection:
        raw = connection.connection.driver_connection
        with socket.socket(fileno=os.dup(raw.fileno())) as line:
            assert line.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
