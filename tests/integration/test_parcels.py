"""What a bundle's load finds of its mails, in a real PostgreSQL: above all whose mail must not go out."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from integration.mail_steps import add_node
from postfleet_workers.errors import InputError
from postfleet_workers.mail import suppressions
from postfleet_workers.mail.directory import Directory
from postfleet_workers.mail.erasure import erase
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.parcels import Parcel, Store
from postfleet_workers.mail.suppressions import Entry, Reason, is_plain
from postfleet_workers.mail.tokens import key_of
from unit.making import make_job

KEY = key_of("k" * 32)


@pytest.fixture(autouse=True)
def node(engine: Engine) -> None:
    add_node(engine, "n1", 25)


def load(engine: Engine, *recipients: str, store: Store | None = None) -> dict[str, Parcel]:
    """The parcels of new mails to these, by recipient."""
    with engine.begin() as connection:
        for to in recipients:
            send_email(connection, NewEmail("acme", "somebody@example.org", "n1", "Hi", "Hi"))
            connection.execute(
                text("UPDATE emails SET recipient = :to WHERE id = (SELECT max(id) FROM emails)"), {"to": to}
            )
        jobs = connection.execute(
            text("SELECT job_id FROM emails WHERE recipient = ANY(:to)"), {"to": list(recipients)}
        )
        bundle = [make_job(id=job_id) for job_id in jobs.scalars()]
        loaded = (store or Store(Directory(), key=KEY)).load(connection, bundle, 0.0, date(2026, 1, 1))
    return {parcel.row.recipient: parcel for parcel in loaded.values()}


def suppress(engine: Engine, *addresses: str, tenant: str = "acme") -> None:
    with engine.begin() as connection:
        suppressions.add(connection, [Entry(tenant, a, Reason.MANUAL) for a in addresses], KEY)


@pytest.mark.parametrize(
    "recipient",
    [
        pytest.param("ann@example.org", id="as it is listed"),
        pytest.param("Ann@Example.ORG", id="in capitals"),
        pytest.param("ann@köln.example", id="an international domain"),
        pytest.param("ann@xn--kln-sna.example", id="the same in ASCII"),
        pytest.param(" ann@example.org ", id="with spaces"),
    ],
)
def test_a_suppressed_address_is_found_in_every_form(engine: Engine, recipient: str) -> None:
    suppress(engine, "ann@example.org", "ann@xn--kln-sna.example")
    found = load(engine, recipient, "bob@example.org")
    assert (found[recipient].suppressed or pytest.fail("not found")).reason is Reason.MANUAL
    assert found["bob@example.org"].suppressed is None


def test_an_entry_of_everyone_counts_and_another_tenants_does_not(engine: Engine) -> None:
    suppress(engine, "ann@example.org", tenant="")
    suppress(engine, "bob@example.org", tenant="other")
    found = load(engine, "ann@example.org", "bob@example.org")
    assert {to for to, parcel in found.items() if parcel.suppressed} == {"ann@example.org"}


def test_an_erased_address_is_known_by_its_hash_alone(engine: Engine) -> None:
    store = Store(Directory(), key=KEY)
    assert load(engine, "ann@example.org", store=store)["ann@example.org"].suppressed is None
    with engine.begin() as connection:
        erase(connection, "ann@example.org", None, KEY or pytest.fail("no key"))
    found = load(engine, "ann@example.org", "bob@example.org", store=store)
    assert {to: str(parcel.suppressed) for to, parcel in found.items() if parcel.suppressed} == {
        "ann@example.org": "erasure (from anyone)"
    }


def test_the_place_of_an_erased_address_gets_no_mail(engine: Engine) -> None:
    found = load(engine, "e1@erased.invalid")
    assert (found["e1@erased.invalid"].suppressed or pytest.fail("not found")).reason is Reason.ERASURE


def test_mail_of_a_node_that_these_workers_cannot_read_is_loaded_without_it(engine: Engine) -> None:
    assert load(engine, "ann@example.org")["ann@example.org"].node is not None
    with engine.begin() as connection:
        connection.execute(text("UPDATE sending_nodes SET spec = jsonb_set(spec, '{smtp,tls}', '\"Quantum\"')"))
    with engine.begin() as connection:
        jobs = connection.execute(text("SELECT job_id FROM emails")).scalars().all()
        found = Store(Directory(), key=KEY).load(connection, [make_job(id=job) for job in jobs], 0.0, date(2026, 1, 1))
        with pytest.raises(InputError, match="'n1' has an invalid spec: 'Quantum' is not a valid Tls"):
            send_email(connection, NewEmail("acme", "ann@example.org", "n1", "Hi", "Hi"))
    assert [parcel.node for parcel in found.values()] == [None]


@given(st.text(alphabet="ann.@example-xn--ORGö\" '+=", max_size=30) | st.emails())
def test_what_counts_as_plain_is_compared_as_it_is(address: str) -> None:
    if is_plain(address):
        try:
            assert suppressions.compared(address) == address
        except suppressions.BadAddress:
            assert address.lower() == address
