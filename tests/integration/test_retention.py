"""Files are kept while anything may carry them, and for the retention after they were last given."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text

from integration.ledger_steps import REGISTRY, move_clock
from integration.mail_steps import add_node
from postfleet_workers.journal import Journal
from postfleet_workers.mail.erasure import erase
from postfleet_workers.mail.message.attachments import File, store
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.retention import forget_attachments
from postfleet_workers.mail.tokens import Key
from postfleet_workers.relay.loop import Relay
from postfleet_workers.relay.publisher import Publisher
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.settings import Settings
from postfleet_workers.throttling.redis import RedisLimiter

DAY = 86_400.0
KEY = Key(b"k" * 32)


def send(engine: Engine, *names: str, to: str = "ann@example.org") -> int:
    """Enqueue a mail that carries files of these names."""
    files = [File(name, name.encode()) for name in names]
    with engine.begin() as connection:
        return send_email(connection, NewEmail("acme", to, "n1", "Hello", "Hello", attachments=files))


def campaign(engine: Engine, name: str, state: str, *, jobs: str = "") -> None:
    """Make a campaign that carries `<name>.pdf`, with one job in the state `jobs`."""
    with engine.begin() as connection:
        values: dict[str, Any] = {"name": name, "state": state, "jobs": jobs}
        values["files"] = store(connection, "acme", [File(f"{name}.pdf", f"{name}.pdf".encode())])
        connection.execute(
            text("INSERT INTO contact_lists (tenant, name) VALUES ('acme', 'l') ON CONFLICT DO NOTHING"), values
        )
        values["id"] = connection.scalar(
            text("""
            INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text, state, attachments)
            SELECT 'acme', :name, id, 'a@b.example', '{n1}', 's', 't', :state, :files FROM contact_lists RETURNING id
            """),
            values,
        )
        if jobs:
            connection.execute(
                text(
                    "INSERT INTO jobs (type, queue, tenant, batch, state) "
                    "VALUES ('email.send', 'q', 'acme', 'campaign:' || CAST(:id AS text), :jobs)"
                ),
                values,
            )


def change(engine: Engine, sql: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), values)


def kept(engine: Engine) -> set[str]:
    with engine.connect() as connection:
        return set(connection.execute(text("SELECT name FROM attachments")).scalars())


def forget(engine: Engine, days: float = 30) -> int:
    with engine.begin() as connection:
        return forget_attachments(connection, days * DAY)


@pytest.mark.parametrize("state", ["available", "scheduled", "retryable", "executing"])
def test_a_file_is_kept_as_long_as_a_mail_waits_that_carries_it(engine: Engine, state: str) -> None:
    add_node(engine, "n1", 1)
    waiting, done = send(engine, "both.pdf", "waiting.pdf"), send(engine, "both.pdf", "done.pdf")
    move = "UPDATE jobs SET state = :state WHERE id = (SELECT job_id FROM emails WHERE id = :email)"
    change(engine, move, state=state, email=waiting)
    change(engine, move, state="completed", email=done)
    move_clock(engine, "29 days")
    assert forget(engine) == 0
    move_clock(engine, "31 days")
    assert forget(engine) == 1
    assert kept(engine) == {"both.pdf", "waiting.pdf"}
    change(engine, move, state="completed", email=waiting)
    assert forget(engine) == 0, "what waited until now begins its retention anew"
    move_clock(engine, "62 days")
    assert forget(engine) == 2


def test_a_file_is_kept_as_long_as_a_campaign_may_send_it(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    campaign(engine, "draft", "draft")
    campaign(engine, "expanding", "expanding")
    campaign(engine, "running", "running", jobs="retryable")
    campaign(engine, "ending", "cancelled", jobs="executing")
    campaign(engine, "completed", "running", jobs="completed")
    campaign(engine, "cancelled", "cancelled", jobs="cancelled")
    move_clock(engine, "31 days")
    assert forget(engine) == 2
    assert kept(engine) == {"draft.pdf", "expanding.pdf", "running.pdf", "ending.pdf"}


def test_a_file_that_is_given_again_is_as_new(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    change(engine, "UPDATE jobs SET state = 'completed' WHERE id = :id", id=send(engine, "terms.pdf"))
    move_clock(engine, "29 days")
    send(engine, "terms.pdf")
    change(engine, "UPDATE jobs SET state = 'completed'")
    move_clock(engine, "58 days")
    assert forget(engine) == 0
    move_clock(engine, "60 days")
    assert forget(engine) == 1


def test_a_file_that_is_being_given_just_now_stays(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    send(engine, "terms.pdf")
    change(engine, "UPDATE jobs SET state = 'completed'")
    move_clock(engine, "31 days")
    with engine.connect() as giving, giving.begin():
        store(giving, "acme", [File("terms.pdf", b"terms.pdf")])
        relay = threading.Thread(target=forget, args=(engine,))
        relay.start()
        wait_for_a_lock(engine)
        giving.commit()
    relay.join()
    assert kept(engine) == {"terms.pdf"}


def test_what_takes_too_long_is_left_for_the_next_time(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    send(engine, "terms.pdf")
    change(engine, "UPDATE jobs SET state = 'completed'")
    move_clock(engine, "31 days")
    with engine.connect() as reader, reader.begin(), engine.begin() as connection:
        reader.execute(text("SELECT FROM attachments FOR SHARE"))
        assert forget_attachments(connection, 30 * DAY, patience_seconds=0.05) == 0
        assert connection.scalar(text("SELECT count(*) FROM attachments")) == 1, "the transaction goes on"
    assert forget(engine) == 1


def wait_for_a_lock(engine: Engine) -> None:
    waiting = text(
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    for _ in range(500):
        with engine.connect() as connection:
            if connection.scalar(waiting):
                return
        threading.Event().wait(0.02)
    raise AssertionError("nobody waits")


def test_the_relay_forgets_by_the_setting(engine: Engine, redis_client: redis.Redis) -> None:
    add_node(engine, "n1", 1)
    send(engine, "terms.pdf")
    change(engine, "UPDATE jobs SET state = 'completed'")
    move_clock(engine, "8 days")
    settings = Settings(database_url="postgresql://unused", redis_url="redis://unused", attachment_days=7)
    pipe = Pipe(redis_client)
    relay = Relay(
        engine=engine, pipe=pipe, publisher=Publisher(pipe, RedisLimiter(redis_client), REGISTRY, settings),
        journal=Journal(redis_client), client=redis_client, registry=REGISTRY, settings=settings,
        stop=threading.Event(),
    )  # fmt: skip
    with engine.connect() as connection:
        relay.tick(connection)
    assert kept(engine) == set()


def test_erasing_a_person_deletes_files_that_only_their_mails_carried(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    send(engine, "invoice.pdf", "terms.pdf", "news.pdf")
    send(engine, "terms.pdf", to="joann@example.org")
    campaign(engine, "news", "running")
    with engine.begin() as connection:
        erase(connection, "ann@example.org", None, KEY)
    assert kept(engine) == {"terms.pdf", "news.pdf"}
