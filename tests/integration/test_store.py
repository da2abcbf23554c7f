from __future__ import annotations

import os
import socket
import subprocess
from datetime import UTC, datetime

from alembic import command
from sqlalchemy import Engine, text

from fleet import POSTFLEET
from postfleet_workers.store import arrays, migrate


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


def test_arrays_arrive_as_they_were(engine: Engine) -> None:
    words = ["", "NULL", "null", None, 'say "so"', "back\\slash", "{a,b}", " ", "line\nbreak", "käse", "'", "\\N", "%s"]
    now = datetime.now(UTC)
    with engine.connect() as connection:

        def arrived(array: str, of: str) -> object:
            return connection.scalar(text(f"SELECT CAST(:array AS {of}[])"), {"array": array})

        assert arrived(arrays.texts(words), "text") == words
        assert arrived(arrays.texts([]), "text") == []
        assert arrived(arrays.plain([1, None, -3]), "bigint") == [1, None, -3]
        assert arrived(arrays.plain([True, False, None]), "boolean") == [True, False, None]
        assert arrived(arrays.plain([now, None]), "timestamptz") == [now, None]


def test_a_mail_that_goes_out_keeps_its_place_in_every_index(engine: Engine) -> None:
    fill = """INSERT INTO emails (job_id, tenant, class, node, recipient, message_id)
              SELECT n, 'acme', 'campaign', 'n1', n || '@example.org', '<' || n || '@example.org>'
              FROM generate_series(1, 300) n"""
    sent = "UPDATE emails SET status = 'sent', begun_at = now(), finished_at = now(), reply = '250 2.0.0 Ok: queued'"
    counted = "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_xact_user_tables WHERE relname = 'emails'"
    with engine.connect() as connection:
        connection.execute(text(fill))
        connection.commit()
        connection.execute(text(sent))
        updates, in_place = connection.execute(text(counted)).one()
        connection.rollback()
    assert updates == 300
    assert in_place >= 285, "updates without an entry in any index"


def test_down_and_up_again_leaves_the_same_schema(engine: Engine) -> None:
    shown = text("SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1")
    with engine.begin() as connection:
        before = connection.execute(shown).all()
        config = migrate._config()
        config.attributes["connection"] = connection
        command.downgrade(config, "0003")
        assert connection.execute(shown).all() != before
        command.upgrade(config, "head")
        assert connection.execute(shown).all() == before
