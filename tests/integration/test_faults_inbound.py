"""`postfleet inbound` when things break: no report is lost, and none counts twice."""

from __future__ import annotations

import signal
import smtplib
import socket
import threading
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text

from fleet import Fleet
from inbound_client import Inbound, path_of, sample, sent
from postfleet_local.stack import Postgres
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for
from scraping import reader

pytestmark = pytest.mark.faults

REPORT = sample("postfix-unknown-user")


class Keeper:
    """A road to PostgreSQL on which an answer to COMMIT is kept from its client, once it is told to."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._server = (str(parts.hostname), int(parts.port or 5432))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = url.replace(f":{parts.port}/", f":{self._listener.getsockname()[1]}/")
        self.keeps = threading.Event()
        self.committed = threading.Event()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(self._server)
                held = threading.Event()
                threading.Thread(target=self._forth, args=(client, server, held), daemon=True).start()
                threading.Thread(target=self._back, args=(client, server, held), daemon=True).start()

    def _forth(self, client: socket.socket, server: socket.socket, held: threading.Event) -> None:
        with suppress(OSError), client, server:
            while data := client.recv(65_536):
                if self.keeps.is_set() and b"COMMIT" in data:
                    held.set()
                server.sendall(data)

    def _back(self, client: socket.socket, server: socket.socket, held: threading.Event) -> None:
        with suppress(OSError):
            while data := server.recv(65_536):
                if held.is_set():
                    self.committed.set()
                else:
                    client.sendall(data)


def counts(fleet: Fleet) -> tuple[int, int, str]:
    [row] = fleet.rows("""
        SELECT (SELECT count(*) FROM email_events), (SELECT count(*) FROM suppressions), (SELECT status FROM emails)
    """)
    return row[0], row[1], row[2]


def test_killed_between_the_commit_and_its_250_the_report_counts_once(fleet: Fleet) -> None:
    email_id = sent(fleet)
    keeper = Keeper(fleet.env["POSTFLEET_DATABASE_URL"])
    victim = Inbound(fleet, POSTFLEET_DATABASE_URL=keeper.url)
    keeper.keeps.set()
    answers: list[object] = []

    def give() -> None:
        try:
            answers.append(victim.give(path_of(email_id), REPORT))
        except (smtplib.SMTPException, OSError) as error:
            answers.append(error)

    server = threading.Thread(target=give)
    server.start()
    assert keeper.committed.wait(30)
    assert counts(fleet) == (1, 1, "bounced")
    victim.process.kill()
    server.join(30)
    keeper.close()
    assert isinstance(answers[0], (smtplib.SMTPException, OSError)), "its server knows of no 250, and comes again"

    assert Inbound(fleet).give(path_of(email_id), REPORT)[0] == 250
    assert counts(fleet) == (1, 1, "bounced")


def test_asked_to_end_while_it_writes_it_answers_first(fleet: Fleet) -> None:
    email_id = sent(fleet)
    inbound = Inbound(fleet)
    with inbound.connected() as idle:
        answers: list[tuple[int, str]] = []
        server = threading.Thread(target=lambda: answers.append(inbound.give(path_of(email_id), REPORT)))
        with fleet.engine.begin() as connection:
            connection.execute(text("LOCK TABLE email_events IN ACCESS EXCLUSIVE MODE"))
            server.start()
            fleet.until(lambda: fleet.rows("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"), "it waits")
            inbound.process.signal(signal.SIGTERM)
            fleet.until(lambda: refused(inbound.port), "takes nobody any more")
        server.join(30)
        assert answers == [(250, "2.0.0 OK")]
        assert inbound.process.popen.wait(15) == 0
        assert idle.noop()[0] == 421, "RFC 5321 3.8"
        with pytest.raises(smtplib.SMTPServerDisconnected):
            idle.noop()
    assert counts(fleet) == (1, 1, "bounced")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    return False


def test_while_postgresql_is_away_reports_are_put_off_and_come_again(tmp_path: Path, own_postgres: Postgres) -> None:
    engine = engine_for(own_postgres.url())
    upgrade(engine)
    urls = {"POSTFLEET_DATABASE_URL": own_postgres.url()}
    fleet = Fleet(tmp_path, engine, urls)
    try:
        email_id = sent(fleet)
        engine.dispose()
        own_postgres.kill()
        inbound = Inbound(fleet)
        assert inbound.process.ready(), "it starts without"
        assert inbound.give(path_of(email_id), REPORT) == (451, "4.3.0 Try again later")
        assert inbound.give(path_of(email_id), sample("out-of-office"))[0] == 250, "nothing is to be written of it"
        page = reader(inbound.process)
        assert page("inbound_refused_total", reason="postgresql") == 1
        own_postgres.start()
        assert inbound.give(path_of(email_id), REPORT)[0] == 250
        assert counts(fleet) == (1, 1, "bounced")
        assert page("inbound_reports_total", kind="bounce") == 1
    finally:
        fleet.close()
        engine.dispose()
