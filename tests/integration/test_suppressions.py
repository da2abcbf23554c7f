"""Who gets no mail, in a real PostgreSQL: looked up, added, removed, erased."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from integration.mail_steps import add_node
from postfleet_workers.jobs import Done, Settled
from postfleet_workers.mail import suppressions
from postfleet_workers.mail.erasure import Erased, erase, placeholder
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.mail.suppressions import Added, Entry, Reason
from postfleet_workers.mail.tokens import Key, address_hash
from postfleet_workers.states import State
from unit.making import make_job

KEY = Key(b"k" * 32)


def entry(address: str, reason: Reason = Reason.MANUAL, tenant: str = "acme", detail: str | None = None) -> Entry:
    return Entry(tenant, address, reason, detail)


def add(engine: Engine, *entries: Entry, key: Key | None = KEY) -> Added:
    with engine.begin() as connection:
        return suppressions.add(connection, entries, key)


def found(engine: Engine, *wanted: tuple[str, str, str], key: Key | None = KEY) -> dict[tuple[str, str, str], str]:
    with engine.begin() as connection:
        return {mail: str(why.reason) for mail, why in suppressions.find(connection, wanted, key).items()}


def rows(engine: Engine, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(sql), parameters)]


def test_an_address_is_found_in_any_form_for_its_tenant_alone(engine: Engine) -> None:
    add(engine, entry("ann@xn--kln-sna.example"), entry("bob@example.org", tenant=""))
    wanted = [
        ("acme", "Ann@Köln.example", "campaign"),
        ("other", "ann@xn--kln-sna.example", "campaign"),
        ("acme", "BOB@example.org", "warmup"),
        ("other", "bob@EXAMPLE.org", "transactional"),
        ("acme", "carl@example.org", "campaign"),
        ("acme", "no address at all", "campaign"),
    ]
    assert found(engine, *wanted) == {wanted[0]: "manual", wanted[2]: "manual", wanted[3]: "manual"}
    assert found(engine) == {}


@pytest.mark.parametrize("reason", list(Reason))
def test_only_unsubscribing_lets_transactional_mail_through(engine: Engine, reason: Reason) -> None:
    add(engine, entry("ann@example.org", reason))
    mails = [("acme", "ann@example.org", name) for name in ("campaign", "warmup", "transactional")]
    assert set(found(engine, *mails)) == set(mails[: 2 if reason is Reason.UNSUBSCRIBE else 3])


def test_a_transactional_mail_is_stopped_by_everyones_entry_beside_a_tenants_unsubscription(engine: Engine) -> None:
    mail = ("acme", "ann@example.org", "transactional")
    add(engine, entry("ann@example.org", Reason.UNSUBSCRIBE, tenant=""), entry("ann@example.org", Reason.COMPLAINT))
    assert found(engine, mail) == {mail: "complaint"}


def test_no_words_of_a_detail_keep_a_stronger_reason_out(engine: Engine) -> None:
    ann = "ann@example.org"
    add(engine, entry(ann, Reason.UNSUBSCRIBE, detail="she called, also complaint by letter"))
    assert add(engine, entry(ann, Reason.COMPLAINT)) == Added(changed=1)
    assert rows(engine, "SELECT reason FROM suppressions") == [("complaint",)]


def test_adding_again_changes_nothing_and_a_second_reason_is_kept_in_words(engine: Engine) -> None:
    ann = "ann@example.org"
    assert add(engine, entry(ann, Reason.UNSUBSCRIBE, detail="link")) == Added(added=1)
    assert add(engine, entry(ann, Reason.UNSUBSCRIBE)) == Added(known=1)
    assert add(engine, entry(ann, Reason.HARD_BOUNCE, detail="550 no")) == Added(changed=1)
    assert add(engine, entry(ann, Reason.HARD_BOUNCE, detail="550 no")) == Added(known=1)
    assert add(engine, entry(ann, Reason.UNSUBSCRIBE)) == Added(known=1)
    assert add(engine, entry(ann, Reason.COMPLAINT), entry(ann, Reason.MANUAL)) == Added(changed=1, known=1)
    assert rows(engine, "SELECT reason, detail FROM suppressions") == [
        ("manual", "also hard_bounce; 550 no; also unsubscribe; link")
    ]


def test_two_that_add_the_same_addresses_in_different_order_do_not_wait_in_a_circle(engine: Engine) -> None:
    entries = [entry(f"c{number}@example.org") for number in range(200)]
    with engine.begin() as one:
        suppressions.add(one, entries[:100], KEY)
        with engine.begin() as two:  # those of its own; the shared ones come once `one` has committed
            suppressions.add(two, reversed(entries[100:]), KEY)
    assert add(engine, *reversed(entries)) == Added(known=200)


def test_removing_says_what_was_there(engine: Engine) -> None:
    add(engine, entry("ann@example.org", Reason.COMPLAINT, detail="abuse"))
    with engine.begin() as connection:
        (gone,) = suppressions.remove(connection, "acme", "ann@example.org", KEY)
        assert (gone.reason, gone.detail) == (Reason.COMPLAINT, "abuse")
        assert suppressions.remove(connection, "acme", "ann@example.org", KEY) == []
    assert found(engine, ("acme", "ann@example.org", "campaign")) == {}


def mail_to(engine: Engine, address: str, tenant: str = "acme") -> tuple[int, int]:
    """An email's id and its job's."""
    with engine.begin() as connection:
        email_id = send_email(connection, NewEmail(tenant, address, "n1", "Hello", "Hello", vars={"name": "Ann"}))
    return email_id, rows(engine, "SELECT job_id FROM emails WHERE id = :id", id=email_id)[0][0]


def settled(job_id: int, record: MailRecord, *, accepted: bool = True) -> Settled:
    return Settled(make_job(id=job_id), Done(record), accepted, State.COMPLETED, None, "w")


def bounced(code: int | None, enhanced: str, said: str, scope: str = "recipient", phase: str = "rcpt") -> MailRecord:
    return MailRecord("n1", phase, Status.BOUNCED, said, code, enhanced, scope)


GONE = bounced(550, "5.1.1", "550 5.1.1 no such user")


@pytest.mark.parametrize(
    ("record", "accepted", "suppressed"),
    [
        pytest.param(GONE, True, True, id="no such user"),
        pytest.param(GONE, False, False, id="fenced"),
        pytest.param(bounced(552, "5.2.2", "552 5.2.2 mailbox full"), True, False, id="full"),
        pytest.param(
            bounced(450, "4.2.1", "given up after 11 deferrals: 450 4.2.1 try later"), True, False, id="given up"
        ),
        pytest.param(
            bounced(552, "5.2.2", "given up after 11 deferrals: 552 5.2.2 over quota"), True, False, id="full for days"
        ),
        pytest.param(bounced(None, "", "given up after 11 deferrals: refused", "destination", "connect"), True, False),
        pytest.param(bounced(554, "5.7.1", "554 5.7.1 spam", "message", "dot"), True, False, id="content"),
        pytest.param(MailRecord("n1", "dot", Status.SENT, "250 ok", 250), True, False, id="sent"),
    ],
)
def test_only_a_hard_bounce_suppresses_its_recipient(
    engine: Engine, record: MailRecord, accepted: bool, suppressed: bool
) -> None:
    add_node(engine, "n1", 1)
    email_id, job_id = mail_to(engine, "Ann@Example.org")
    with engine.begin() as connection:
        suppressions.from_records(connection, [settled(job_id, record, accepted=accepted)])
    assert rows(engine, "SELECT tenant, address, reason, detail, email_id FROM suppressions") == (
        [("acme", "ann@example.org", "hard_bounce", record.text, email_id)] if suppressed else []
    )


def test_an_erased_address_leaves_its_hash_and_is_obeyed_ever_after(engine: Engine) -> None:
    add_node(engine, "n1", 1)
    ann = "ann@example.org"
    sent, job_id = mail_to(engine, "Ann@example.org")
    waiting, _ = mail_to(engine, ann)
    other, _ = mail_to(engine, "joann@example.org")
    add(engine, entry(ann, Reason.COMPLAINT, detail=f"of {ann}"), entry("joann@example.org"))
    with engine.begin() as connection:
        for statement in (
            "UPDATE emails SET status = 'sent', reply = '250 <ANN@example.org> ok' WHERE id = :sent",
            "UPDATE jobs SET state = 'completed', last_error = 'ann@example.org?' WHERE id = :job_id",
            (
                "INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, reply) "
                "VALUES (:sent, 1, 'w', 'n1', 'dot', 'sent', 'for ann@example.org, ok')"
            ),
            (
                "INSERT INTO email_events (email_id, kind, url, unique_key) "
                "VALUES (:sent, 'click', 'https://example.com/?for=ann@example.org', 'x')"
            ),
            (
                "INSERT INTO email_events (email_id, kind, url, unique_key) "
                "VALUES (:sent, 'click', 'https://example.com/?for=Ann%40example%2Eorg&x=ann%2540', 'y')"
            ),
            "INSERT INTO contacts (tenant, email) VALUES ('acme', 'ann@example.org'), ('acme', 'joann@example.org')",
        ):
            connection.execute(text(statement), {"sent": sent, "job_id": job_id})

    with engine.begin() as connection:
        assert erase(connection, ann, None, KEY) == Erased(emails=2, cancelled=1, contacts=1, suppressions=1)
    with engine.begin() as connection:
        assert erase(connection, ann, None, KEY) == Erased(emails=2, cancelled=0, contacts=0, suppressions=0)

    stands_in = placeholder(KEY, ann)
    mails = rows(engine, "SELECT id, recipient, status, content IS NULL, reply FROM emails ORDER BY id")
    assert mails == [
        (sent, stands_in, "sent", True, f"250 <{stands_in}> ok"),
        (waiting, stands_in, "cancelled", True, None),
        (other, "joann@example.org", "queued", False, None),
    ]
    assert rows(engine, "SELECT email FROM contacts") == [("joann@example.org",)]
    for table in ("emails", "email_attempts", "email_events", "jobs", "contacts", "suppressions"):
        held = rows(engine, f"SELECT t::text FROM {table} t WHERE t::text ~* '\\mann@example.org'")
        assert held == [], table
    assert rows(engine, "SELECT url FROM email_events WHERE unique_key = 'y'") == [
        (f"https://example.com/?for={stands_in}&x=ann%2540",)
    ]
    hashed = address_hash(KEY, ann)
    assert rows(engine, "SELECT tenant, hash, reason FROM suppressions WHERE address IS NULL ORDER BY tenant") == [
        ("", hashed, "erasure"),
        ("acme", hashed, "complaint"),
    ]

    assert add(engine, entry(ann), entry("zoe@example.org")) == Added(added=1, erased=1)
    mail = ("other", "ANN@example.org", "transactional")
    assert found(engine, mail) == {mail: "erasure"}
    assert found(engine, ("acme", stands_in, "transactional")) == {("acme", stands_in, "transactional"): "erasure"}
    with engine.begin() as connection:
        suppressions.of_emails(connection, {sent: (Reason.COMPLAINT, None)}, KEY)
        (gone,) = suppressions.remove(connection, "", ann, KEY)
    assert gone.reason is Reason.ERASURE


def test_an_address_can_be_erased_for_one_tenant(engine: Engine) -> None:
    add_node(engine, "n1", 1, "acme")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('other')"))
    mail_to(engine, "ann@example.org", "acme")
    mail_to(engine, "ann@example.org", "other")
    with engine.begin() as connection:
        assert erase(connection, "ann@example.org", "acme", KEY).emails == 1
    assert rows(engine, "SELECT tenant, recipient, status FROM emails ORDER BY tenant") == [
        ("acme", placeholder(KEY, "ann@example.org"), "cancelled"),
        ("other", "ann@example.org", "queued"),
    ]
    assert found(engine, ("acme", "ann@example.org", "campaign"), ("other", "ann@example.org", "campaign")) == {
        ("acme", "ann@example.org", "campaign"): "erasure"
    }


def test_who_was_erased_by_an_older_key_is_known_by_it_and_moves_to_the_newest_when_erased_again(
    engine: Engine,
) -> None:
    ann, both = "ann@example.org", Key(b"n" * 32, (b"k" * 32,))
    add_node(engine, "n1", 1)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('other')"))
    mail_to(engine, ann)
    with engine.begin() as connection:
        erase(connection, ann, "acme", KEY)
        erase(connection, ann, None, KEY)
    mail = ("other", "Ann@example.org", "transactional")
    assert found(engine, mail, key=both) == {mail: "erasure"}
    assert add(engine, entry(ann), entry("zoe@example.org"), key=both) == Added(added=1, erased=1)

    with engine.begin() as connection:
        assert erase(connection, ann, None, both) == Erased(emails=1, cancelled=0, contacts=0, suppressions=2)
    hashed = address_hash(both, ann)
    assert rows(engine, "SELECT tenant, hash, reason FROM suppressions WHERE address IS NULL ORDER BY tenant") == [
        ("", hashed, "erasure"),
        ("acme", hashed, "erasure"),
    ]
    assert rows(engine, "SELECT recipient FROM emails") == [(placeholder(both, ann),)]
    assert found(engine, mail, key=Key(b"n" * 32)) == {mail: "erasure"}


def test_an_address_that_an_older_key_has_erased_can_be_let_in_again(engine: Engine) -> None:
    with engine.begin() as connection:
        erase(connection, "ann@example.org", None, KEY)
    both = Key(b"n" * 32, (b"k" * 32,))
    with engine.begin() as connection:
        assert len(suppressions.remove(connection, "", "ann@example.org", both)) == 1
    assert rows(engine, "SELECT * FROM suppressions") == []
