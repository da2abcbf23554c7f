"""`postfleet inbound`, a real process: servers send what came back, PostgreSQL shows what was made of it."""

from __future__ import annotations

import smtplib
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest
import trustme

from command import program
from fleet import Fleet
from inbound_client import DOMAIN, FEEDBACK, KEY, SECRET, Inbound, notice, path_of, sample, sent
from integration.mail_steps import add_node
from postfleet_workers.mail.returnpath import return_path, unsubscribe_address
from postfleet_workers.mail.tokens import Key
from scraping import reader


@pytest.fixture
def inbound(fleet: Fleet) -> Inbound:
    return Inbound(fleet)


def events(fleet: Fleet) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fleet.rows("SELECT email_id, kind, detail FROM email_events ORDER BY id")]


def suppressed(fleet: Fleet) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in fleet.rows("SELECT tenant, address, reason, email_id FROM suppressions ORDER BY id")]


def status_of(fleet: Fleet, email_id: int) -> str:
    [(status,)] = fleet.rows("SELECT status FROM emails WHERE id = :id", id=email_id)
    return str(status)


def test_a_bounce_is_written_before_it_is_answered_and_once(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    detail = "550 5.1.1 <ann@example.org>: Recipient address rejected: User unknown in local recipient table"
    for _ in range(2):
        assert inbound.give(path_of(email_id).upper(), sample("postfix-unknown-user"))[0] == 250
        assert events(fleet) == [(email_id, "bounce", detail)]
        assert status_of(fleet, email_id) == "bounced"
        assert suppressed(fleet) == [("acme", "ann@example.org", "hard_bounce", email_id)]
    # Somebody let the address in again: the same bounce, told by another server, does not shut it out.
    fleet.execute("DELETE FROM suppressions")
    assert inbound.give(path_of(email_id), sample("gmail-unknown-user"))[0] == 250
    assert suppressed(fleet) == []
    assert path_of(email_id).partition("@")[0] not in inbound.process.log.read_text(), "it is as good as a key"
    page = reader(inbound.process)
    assert page("inbound_reports_total", kind="bounce") == 1
    assert page("inbound_reports_total", kind="repeated") == 2


def test_a_mail_to_the_address_in_list_unsubscribe_takes_its_recipient_off(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    address = unsubscribe_address(email_id, DOMAIN, KEY)
    for _ in range(2):
        assert inbound.give(address.upper(), b"Subject: whatever\r\n\r\n")[0] == 250
        assert events(fleet) == [(email_id, "unsubscribe", None)]
        assert suppressed(fleet) == [("acme", "ann@example.org", "unsubscribe", email_id)]
    assert inbound.give(address.replace("u+", "u+1"), b"Subject: x\r\n\r\n")[0] == 550
    page = reader(inbound.process)
    assert page("inbound_reports_total", kind="unsubscribe") == 1
    assert page("inbound_reports_total", kind="repeated") == 1


def test_bounces_of_mail_that_an_older_key_has_signed_are_taken(fleet: Fleet) -> None:
    newer = Inbound(fleet, POSTFLEET_SECRET_KEY=f"{'n' * 32},{SECRET}")
    email_id = sent(fleet)
    assert newer.give(path_of(email_id), sample("postfix-unknown-user"))[0] == 250
    assert newer.give(FEEDBACK, sample("postfix-unknown-user"))[0] == 250
    assert [kind for _, kind, _ in events(fleet)] == ["bounce"]


def test_each_report_does_what_it_says_and_no_more(fleet: Fleet, inbound: Inbound) -> None:
    expected = {
        "postfix-full": ("bounce", "bounced", None),
        "postfix-expired": ("bounce", "bounced", None),
        "outlook-reputation": ("bounce", "bounced", None),
        "qmail": ("bounce", "bounced", "hard_bounce"),
        "postfix-delayed": ("delay", "sent", None),
        "postfix-delivered": (None, "sent", None),
        "forwarded-two-recipients": (None, "sent", None),
        "arf-yahoo": ("complaint", "sent", "complaint"),
        "arf-not-spam": (None, "sent", None),
        "out-of-office": (None, "sent", None),
        "human-reply": (None, "sent", None),
        "garbage": (None, "sent", None),
    }
    mails = {name: sent(fleet, f"{name}@example.org") for name in expected}
    for name, email_id in mails.items():
        report = sample(name, email_id) if name != "garbage" else b"\x00\xff garbage\r\n"
        assert inbound.give(path_of(email_id), report) == (250, "2.0.0 OK")
    kinds = {email_id: kind for email_id, kind, _ in events(fleet)}
    reasons = {email_id: reason for _, _, reason, email_id in suppressed(fleet)}
    assert expected == {
        name: (kinds.get(email_id), status_of(fleet, email_id), reasons.get(email_id))
        for name, email_id in mails.items()
    }
    page = reader(inbound.process)
    counts = {"bounce": 4, "delay": 1, "complaint": 1, "delivered": 2, "not_spam": 1, "auto_reply": 1, "other": 2}
    assert {kind: page("inbound_reports_total", kind=kind) for kind in counts} == counts


def test_a_mail_nobody_knew_the_fate_of_has_bounced_and_one_to_be_sent_again_has_not(
    fleet: Fleet, inbound: Inbound
) -> None:
    unknown, waiting = sent(fleet, status="unknown"), sent(fleet, "bob@example.org", status="deferred")
    for email_id in (unknown, waiting):
        inbound.give(path_of(email_id), notice("failed", "5.7.1", "smtp; 550 5.7.1 no", "x@example.org"))
    assert [row[:2] for row in events(fleet)] == [(unknown, "bounce"), (waiting, "bounce")]
    assert (status_of(fleet, unknown), status_of(fleet, waiting)) == ("bounced", "deferred")


def test_every_delay_notice_counts_but_the_same_one_once(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    first, second = (notice("delayed", "4.4.1", f"smtp; 451 4.4.1 timed out after {hours} h") for hours in (4, 8))
    for report in (first, second, first):
        inbound.give(path_of(email_id), report)
    assert [row[2] for row in events(fleet)] == [f"451 4.4.1 timed out after {hours} h" for hours in (4, 8)]


def test_complaints_at_their_own_address_are_told_by_the_mail_in_them(fleet: Fleet, inbound: Inbound) -> None:
    expected = []
    for name in ("arf-yahoo", "arf-redacted", "jmrp", "arf-message-id-only"):
        recipient = "ann@example.org" if name == "arf-message-id-only" else f"{name}@example.org"
        email_id = sent(fleet, recipient)
        for _ in range(2):
            assert inbound.give(FEEDBACK, sample(name, email_id))[0] == 250
        expected.append(("acme", recipient, "complaint", email_id))
    assert [row[:2] for row in events(fleet)] == [(row[3], "complaint") for row in expected]
    assert suppressed(fleet) == expected


def test_reports_of_nothing_we_know_are_taken_and_counted(fleet: Fleet, inbound: Inbound) -> None:
    for address, report in (
        (FEEDBACK, sample("arf-yahoo", 4711)),
        (FEEDBACK, sample("postfix-unknown-user")),
        (path_of(4711), sample("postfix-unknown-user")),
    ):
        assert inbound.give(address, report)[0] == 250
    assert events(fleet) == []
    assert reader(inbound.process)("inbound_reports_total", kind="unidentified") == 3


def test_a_late_bounce_writes_no_erased_address_down_again(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    env = {**fleet.env, "POSTFLEET_SECRET_KEY": SECRET}
    assert program("suppressions", "erase", "ann@example.org", "--global", env=env).code == 0
    inbound.give(path_of(email_id), sample("postfix-unknown-user"))
    assert events(fleet) == [(email_id, "bounce", "550 5.1.1")]
    assert [row[1] for row in suppressed(fleet)] == [None]


def test_only_addresses_that_we_signed_are_taken_one_at_a_time(inbound: Inbound) -> None:
    with inbound.connected() as session:
        session.mail("")
        for stranger in (
            "postmaster@bounces.example.com",
            path_of(7).replace("b+7", "b+8"),
            return_path(7, "bounces.example.com", Key(b"another key of thirty-two bytes!")),
        ):
            assert session.rcpt(stranger) == (550, b"5.1.1 No such address here")
        assert session.rcpt(path_of(7))[0] == 250
        assert session.rcpt(path_of(8)) == (452, b"4.5.3 One recipient at a time")
        assert "auth" not in session.esmtp_features
        assert session.esmtp_features["size"] == str(10 * 1024 * 1024)
        code, _ = session.docmd("AUTH PLAIN")
        assert code in {500, 504, 538}
    assert reader(inbound.process)("inbound_refused_total", reason="address") == 3


def test_too_much_is_refused(fleet: Fleet, inbound: Inbound) -> None:
    with inbound.connected() as session:
        assert session.mail("", [f"SIZE={50_000_000}"])[0] == 552
    report = sample("postfix-unknown-user")
    more = b"".join(b"%076d\r\n" % number for number in range(11 * 1024 * 1024 // 78))
    assert inbound.give(path_of(sent(fleet)), report + more)[0] == 552
    assert events(fleet) == []


def test_neither_endless_lines_nor_countless_ones_take_memory(fleet: Fleet, inbound: Inbound) -> None:
    page, path = reader(inbound.process), path_of(sent(fleet))
    before = page("process_resident_memory_bytes")
    assert inbound.give(path, b"\r\n" * (5 * 1024 * 1024 - 100))[0] == 250
    with inbound.connected() as session:
        session.mail("")
        session.rcpt(path)
        session.docmd("DATA")
        for _ in range(150):
            session.sock.sendall(b"x" * 1024 * 1024)
        assert page("process_resident_memory_bytes") - before < 100 * 1024 * 1024
        session.send(b"\r\n.\r\n")
        assert session.getreply()[0] == 552
        assert session.noop()[0] == 250
    assert inbound.give(path, sample("qmail"))[0] == 250
    assert [kind for _, kind, _ in events(fleet)] == ["bounce"]


def test_dots_at_the_beginning_of_lines_are_taken_off(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    with inbound.connected() as session:
        session.mail("")
        session.rcpt(path_of(email_id))
        session.docmd("DATA")
        session.send(notice("failed", "5.1.1", "smtp; 550 5.1.1 User unknown"))
        session.send(b"..\r\n...\r\n.x\r\n.\r\n")
        assert session.getreply()[0] == 250
    assert status_of(fleet, email_id) == "bounced"


def test_a_bounce_that_overtakes_the_word_of_its_sending_comes_again(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet, status="queued")
    fleet.execute(
        "INSERT INTO jobs (id, type, queue, tenant, args, state) OVERRIDING SYSTEM VALUE "
        "SELECT job_id, 'email.send', 'campaign-standard', tenant, '{}', 'executing' FROM emails"
    )
    assert inbound.give(path_of(email_id), sample("postfix-unknown-user")) == (451, "4.3.0 Try again later")
    assert (events(fleet), suppressed(fleet)) == ([], [])
    fleet.execute("UPDATE emails SET status = 'sent'")
    assert inbound.give(path_of(email_id), sample("postfix-unknown-user"))[0] == 250
    assert status_of(fleet, email_id) == "bounced"
    assert reader(inbound.process)("inbound_refused_total", reason="early") == 1


def test_nobody_fills_the_table_with_delay_notices(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    fleet.execute(
        "INSERT INTO email_events (email_id, kind, unique_key) SELECT :id, 'delay', 'x' || n "
        "FROM generate_series(1, 99) n",
        id=email_id,
    )
    for hours in range(3):
        assert inbound.give(path_of(email_id), notice("delayed", "4.4.1", f"smtp; 451 4.4.1 {hours} h"))[0] == 250
    assert len(events(fleet)) == 100


def test_bytes_that_are_no_text_are_no_address(inbound: Inbound) -> None:
    with inbound.connected() as session:
        session.mail("")
        for address in (b"b+7.\xff", b"fbl+\xff", b"u+7.\xed\xa0\x80"):
            session.sock.sendall(b"RCPT TO:<" + address + b"@bounces.example.com>\r\n")
            assert session.getreply()[0] == 550


def test_who_does_not_read_its_answers_is_gone_for_good(fleet: Fleet, inbound: Inbound) -> None:
    page = reader(inbound.process)
    deaf = []
    for _ in range(101):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", inbound.port))
        deaf.append(connection)
        if len(deaf) == 1:
            connection.sendall(b"EHLO x\r\n" * 1000 + b"HELP\r\n" * 1000 + b"NOOP\r\n" * 1000)
    try:
        fleet.until(lambda: page("inbound_refused_total", reason="connections") == 1, "the first makes room")
        fleet.until(lambda: page("inbound_connections") == 100, "the others stay")
        descriptors = page("process_open_fds")
        deaf[1].close()
        fleet.until(lambda: page("process_open_fds") == descriptors - 1, "no descriptor is held for it")
    finally:
        for connection in deaf:
            connection.close()


def test_a_line_longer_than_the_standard_allows_is_taken(fleet: Fleet, inbound: Inbound) -> None:
    email_id = sent(fleet)
    said = "smtp; 550 5.1.1 User unknown " + "x" * 5_000
    assert inbound.give(path_of(email_id), notice("failed", "5.1.1", said))[0] == 250
    assert status_of(fleet, email_id) == "bounced"


def test_the_oldest_of_too_many_connections_makes_room(fleet: Fleet, inbound: Inbound) -> None:
    page = reader(inbound.process)
    silent = [socket.create_connection(("127.0.0.1", inbound.port), timeout=10) for _ in range(100)]
    try:
        fleet.until(lambda: page("inbound_connections") == 100, "all are open")
        email_id = sent(fleet)
        assert inbound.give(path_of(email_id), sample("qmail"))[0] == 250
        greeting, *others = silent[0].makefile("rb").readlines()
        assert greeting.startswith(b"220 ")
        assert others == [b"421 4.3.2 Closing; come again\r\n"]
        assert page("inbound_refused_total", reason="connections") == 1
    finally:
        for connection in silent:
            connection.close()
    fleet.until(lambda: page("inbound_connections") == 0, "all are closed")


def test_starttls_is_offered_with_a_certificate_and_a_new_one_is_used(fleet: Fleet, tmp_path: Path) -> None:
    email_id = sent(fleet)
    first, second = trustme.CA(), trustme.CA()
    file = tmp_path / "tls.pem"
    first.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    inbound = Inbound(fleet, POSTFLEET_INBOUND_TLS_CERT=str(file))

    def secure(authority: trustme.CA) -> smtplib.SMTP:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        session = smtplib.SMTP("localhost", inbound.port, timeout=30)
        session.starttls(context=context)
        return session

    with secure(first) as session:
        session.sendmail("mailer-daemon@mx.example.org", path_of(email_id), sample("postfix-unknown-user"))
        assert "auth" not in session.esmtp_features
    assert status_of(fleet, email_id) == "bounced"
    second.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(file)
    with secure(second) as session:
        assert session.noop()[0] == 250
    file.write_text("no certificate any more")
    with secure(second) as session:
        assert session.noop()[0] == 250


def test_it_tells_where_complaints_go_to(fleet: Fleet) -> None:
    add_node(fleet.engine, "n1", 25)
    add_node(fleet.engine, "n2", 25)
    fleet.execute(
        "UPDATE sending_nodes SET spec = jsonb_set(spec, '{identity,returnPathDomain}', '\"bounces.example.com\"') "
        "WHERE name = 'n2'"
    )
    env = {**fleet.env, "POSTFLEET_SECRET_KEY": SECRET}
    assert program("inbound", "--addresses", "--output", "json", env=env).json == [
        {"node": "n2", "return_path_domain": "bounces.example.com", "complaints_to": FEEDBACK}
    ]


@pytest.mark.parametrize(
    ("env", "line"),
    [
        pytest.param({"POSTFLEET_SECRET_KEY": ""}, "POSTFLEET_SECRET_KEY is not set; give the one that", id="no key"),
        pytest.param({"POSTFLEET_SECRET_KEY": "short"}, "POSTFLEET_SECRET_KEY has 5 characters", id="short key"),
        pytest.param({"POSTFLEET_INBOUND_HOST": "192.0.2.1"}, "POSTFLEET_INBOUND_HOST=192.0.2.1", id="address"),
        pytest.param(
            {"POSTFLEET_INBOUND_TLS_CERT": "/nowhere.pem"},
            "POSTFLEET_INBOUND_TLS_CERT=/nowhere.pem: No such file or directory",
            id="certificate",
        ),
        pytest.param({"POSTFLEET_DATABASE_URL": "mysql://x/y"}, "is not PostgreSQL", id="database"),
    ],
)
def test_what_cannot_work_is_one_line(fleet: Fleet, env: dict[str, str], line: str) -> None:
    answer = program("inbound", env={**fleet.env, "POSTFLEET_SECRET_KEY": SECRET, **env})
    assert answer.code == 2
    assert line in answer.err
    assert answer.err.count("\n") == 1
