"""A single mail's way into the ledger, and how it is found there, on a real database."""

from __future__ import annotations

from collections import Counter

import pytest
from sqlalchemy import Engine, text

from integration.campaigning import add_nodes, rows
from postfleet_workers.mail.inspection import Question, emails
from postfleet_workers.mail.outbox import NewEmail, send_email


def test_mail_without_a_node_goes_to_one_that_is_open_to_its_tenant(engine: Engine) -> None:
    add_nodes(engine, "others", tenants=("other",))
    add_nodes(engine, "mine", "also-mine")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('acme')"))
        for _ in range(2):
            for number in range(20):
                send_email(connection, NewEmail("acme", f"u{number}@example.org", "", "Hi", "Hello"))
    found = Counter((row.recipient, row.node) for row in rows(engine, "SELECT recipient, node FROM emails"))
    assert set(found.values()) == {2}, "the same recipient has the same node"
    assert {node for _, node in found} == {"mine", "also-mine"}


@pytest.mark.parametrize("asked", ["Ann@Bücher.example", "ann@bücher.example", "ANN@xn--bcher-kva.example"])
def test_an_address_finds_its_mails_as_people_write_it(engine: Engine, asked: str) -> None:
    add_nodes(engine, "acme-1")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('acme')"))
        for to in ("ann@bücher.example", "bob@bücher.example"):
            send_email(connection, NewEmail("acme", to, "acme-1", "Hi", "Hello"))
        found = emails(connection, Question(recipient=asked))
    assert [row["recipient"] for row in found] == ["ann@xn--bcher-kva.example"]
