"""`postfleet web` while PostgreSQL is away: readers go on, and nobody is told of what is not written."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from fleet import Fleet
from integration.mail_steps import add_node, mail
from postfleet_local.stack import Postgres
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for
from scraping import reader
from web_client import LINKS, Web

pytestmark = pytest.mark.faults

TARGET = "https://shop.example/"


@pytest.fixture
def own_fleet(tmp_path: Path, own_postgres: Postgres) -> Iterator[Fleet]:
    engine = engine_for(own_postgres.url())
    upgrade(engine)
    urls = {"POSTFLEET_DATABASE_URL": own_postgres.url()}
    fleet = Fleet(tmp_path, engine, urls)
    yield fleet
    fleet.close()
    engine.dispose()


def sent(fleet: Fleet) -> int:
    """The id of a mail that went out an hour ago."""
    add_node(fleet.engine, "n1", 2525)
    mail(fleet.engine, 1)
    fleet.execute("UPDATE emails SET status = 'sent', class = 'campaign', finished_at = now() - interval '1 hour'")
    [(found,)] = fleet.rows("SELECT id FROM emails")
    return int(found)


def count(fleet: Fleet, table: str) -> int:
    with fleet.engine.connect() as connection:
        return int(connection.scalar(text(f"SELECT count(*) FROM {table}")) or 0)


def test_postgresql_is_restarted_under_it(own_fleet: Fleet, own_postgres: Postgres) -> None:
    email_id = sent(own_fleet)
    web = Web(own_fleet)
    assert web.ask("GET", LINKS.click(email_id, f"{TARGET}first")).status == 302
    own_fleet.until(lambda: count(own_fleet, "email_events"), "the first click")
    own_fleet.engine.dispose()
    own_postgres.kill()

    begun = time.monotonic()
    clicks = [web.ask("GET", LINKS.click(email_id, f"{TARGET}{number}")) for number in range(100)]
    assert {(answer.status, answer.headers["location"].startswith(TARGET)) for answer in clicks} == {(302, True)}
    assert time.monotonic() - begun < 5
    assert web.ask("GET", LINKS.open(email_id)).status == 200
    assert web.ask("GET", LINKS.unsubscribe(email_id)).status == 200
    answer = web.one_click(email_id)
    assert (answer.status, answer.headers["retry-after"]) == (503, "30")
    assert b"you are not unsubscribed" in answer.body
    page = reader(web.process)
    assert (page("web_events_waiting"), page("web_events_lost_total")) == (101, 0)
    assert web.process.ready()

    own_postgres.start()
    own_fleet.until(lambda: web.one_click(email_id).status == 200, "unsubscribed")
    own_fleet.until(lambda: page("web_events_waiting") == 0, "all events written")
    assert count(own_fleet, "email_events") == 1 + 100 + 1 + 1
    assert count(own_fleet, "suppressions") == 1
    assert page("web_events_lost_total") == 0


def test_it_starts_without_postgresql_and_counts_what_it_could_not_write(
    own_fleet: Fleet, own_postgres: Postgres
) -> None:
    email_id = sent(own_fleet)
    own_fleet.engine.dispose()
    own_postgres.stop()
    web = Web(own_fleet)
    assert web.ask("GET", LINKS.click(email_id, TARGET)).status == 302
    assert web.process.stop() == 0
    assert '"count": 1, "event": "events_lost"' in web.process.log.read_text()
    own_postgres.start()


def test_a_server_that_does_not_answer_holds_nobody_up_for_long(own_fleet: Fleet) -> None:
    email_id = sent(own_fleet)
    web = Web(own_fleet)
    with own_fleet.engine.begin() as connection:
        connection.execute(text("LOCK TABLE suppressions, email_events IN ACCESS EXCLUSIVE MODE"))
        begun = time.monotonic()
        assert web.one_click(email_id).status == 503
        assert time.monotonic() - begun < 12
        assert web.ask("GET", LINKS.click(email_id, TARGET)).status == 302
    own_fleet.until(lambda: count(own_fleet, "suppressions") == 1, "what was asked for is done late")
    assert web.one_click(email_id).status == 200
