"""The whole way: a worker sends, the receiver's server sends back what became of it, and the next mail is not sent."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from fleet import Fleet
from inbound_client import DOMAIN, SECRET, Inbound, notice
from integration.mail_steps import QUEUES, add_node, final
from mail_lab import Lab
from postfleet_workers.mail.outbox import NewEmail, send_email


@pytest.fixture
def lab() -> Iterator[Lab]:
    lab = Lab()
    yield lab
    lab.stop()


def send(engine: Engine, *recipients: str) -> None:
    with engine.begin() as connection:
        for recipient in recipients:
            send_email(connection, NewEmail("acme", recipient, "n1", "Hello", "Hello there"))


def return_to_us(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE sending_nodes SET spec = jsonb_set(spec, '{identity,returnPathDomain}', :domain)"),
            {"domain": json.dumps(DOMAIN)},
        )


def test_an_address_that_bounces_now_or_later_gets_no_second_mail(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    fleet.env["POSTFLEET_SECRET_KEY"] = SECRET
    add_node(engine, "n1", lab.port)
    return_to_us(engine)
    lab.rcpt["now@example.org"] = "550 5.1.1 User unknown"
    lab.rcpt["spam@example.org"] = "550 5.7.1 Message rejected as spam"
    fleet.relay()
    fleet.worker(QUEUES, threads=2)
    send(engine, "Later@example.org", "now@example.org", "spam@example.org", "well@example.org")
    assert final(fleet) == {"sent": 2, "bounced": 2}

    inbound = Inbound(fleet)
    path = {mail.recipient: mail.sender for mail in lab.accepted}["Later@example.org"]
    report = notice("failed", "5.1.1", "smtp; 550 5.1.1 User unknown", "later@example.org")
    assert inbound.give(path, report)[0] == 250
    send(engine, "later@example.org", "NOW@example.org", "spam@example.org", "well@example.org")
    assert final(fleet) == {"sent": 2, "bounced": 4, "suppressed": 2}
    assert sorted(mail.recipient for mail in lab.accepted) == [
        "Later@example.org", "well@example.org", "well@example.org",
    ]  # fmt: skip
    replies = fleet.rows("SELECT lower(recipient), reply FROM emails WHERE status = 'suppressed' ORDER BY id")
    assert [tuple(row) for row in replies] == [
        ("later@example.org", "hard_bounce: 550 5.1.1 User unknown"),
        ("now@example.org", "hard_bounce: 550 5.1.1 User unknown"),
    ]


def test_without_a_key_mail_keeps_its_sender_and_the_worker_says_so_once(
    fleet: Fleet, engine: Engine, lab: Lab
) -> None:
    add_node(engine, "n1", lab.port)
    return_to_us(engine)
    fleet.relay()
    worker = fleet.worker(QUEUES, threads=2)
    send(engine, "a@example.org", "b@example.org")
    assert final(fleet) == {"sent": 2}
    assert {mail.sender for mail in lab.accepted} == {"postmaster@n1.example"}
    assert worker.log.read_text().count('"no_return_paths"') == 1
