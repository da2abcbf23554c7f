"""The demo's SMTP server, spoken to over a socket."""

from __future__ import annotations

import smtplib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from postfleet_local.sink import Manners
from postfleet_local.stack import Sink
from postfleet_local.tally import copies, read

MAIL = "Message-ID: <{id}@acme.example>\r\nX-Postfleet-Email: 7\r\nSubject: hi\r\n\r\nhello\r\n"


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[Sink]:
    sink = Sink(tmp_path / "sink")
    sink.start()
    yield sink
    sink.stop()


def test_an_accepted_mail_is_one_line_of_the_log(sink: Sink) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port) as client:
        client.sendmail("a@acme.example", ["jo@example.org"], MAIL.format(id="one"))
    (mail,) = read(sink.mails)
    assert (mail.message_id, mail.email, mail.recipient) == ("one@acme.example", "7", "jo@example.org")


def test_it_offers_what_a_provider_offers(sink: Sink) -> None:
    with smtplib.SMTP("127.0.0.1", sink.port) as client:
        client.ehlo()
        assert {"pipelining", "8bitmime", "enhancedstatuscodes", "auth"} <= client.esmtp_features.keys()


def test_pipelined_commands_are_answered_in_order(sink: Sink) -> None:
    with socket.create_connection(("127.0.0.1", sink.port)) as client, client.makefile("rb") as answers:
        answers.readline()
        client.sendall(b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n")
        assert [answers.readline()[:3] for _ in range(4)] == [b"250", b"250", b"250", b"354"]
        client.sendall(b"Message-ID:\r\n <folded@x>\r\n\r\n..\r\n.\r\nQUIT\r\n")
        assert [answers.readline()[:3] for _ in range(2)] == [b"250", b"221"]
    assert copies(read(sink.mails)) == {"folded@x": 1}


@pytest.mark.parametrize(
    ("commands", "code"),
    [
        pytest.param([b"RCPT TO:<a@b>"], b"503", id="rcpt before mail"),
        pytest.param([b"DATA"], b"503", id="data before rcpt"),
        pytest.param([b"MAIL FROM:<a@b>", b"MAIL FROM:<a@b>"], b"503", id="mail in a mail"),
        pytest.param([b"MAIL a@b"], b"501", id="no address"),
        pytest.param([b"TURN"], b"502", id="unknown command"),
        pytest.param([b"AUTH CRAM-MD5"], b"504", id="unknown mechanism"),
        pytest.param([b"x" * 5000], b"500", id="endless line"),
    ],
)
def test_wrong_commands_get_their_code(sink: Sink, commands: list[bytes], code: bytes) -> None:
    with socket.create_connection(("127.0.0.1", sink.port)) as client, client.makefile("rb") as answers:
        answers.readline()
        for command in commands[:-1]:
            client.sendall(command + b"\r\n")
            assert answers.readline().startswith(b"250")
        client.sendall(commands[-1] + b"\r\n")
        assert answers.readline().startswith(code)


def test_only_the_right_login_is_let_in(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "sink", username="acme", password="secret", require_auth=True)
    sink.start()
    try:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            with pytest.raises(smtplib.SMTPSenderRefused, match="530"):
                client.sendmail("a@acme.example", ["jo@example.org"], MAIL.format(id="none"))
            with pytest.raises(smtplib.SMTPAuthenticationError, match="535"):
                client.login("acme", "wrong")
            client.login("acme", "secret")
            client.sendmail("a@acme.example", ["jo@example.org"], MAIL.format(id="in"))
    finally:
        sink.stop()
    assert copies(read(sink.mails)) == {"in@acme.example": 1}


def test_a_client_that_vanishes_after_its_dot_has_delivered(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "sink", delay_seconds=(0.3, 0.3))
    sink.start()
    try:
        with socket.create_connection(("127.0.0.1", sink.port)) as client, client.makefile("rb") as answers:
            answers.readline()
            client.sendall(b"HELO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<d@e.f>\r\nDATA\r\n")
            for _ in range(4):
                answers.readline()
            client.sendall(b"Message-ID: <gone@x>\r\n\r\nbye\r\n.\r\n")
        assert read(sink.mails) == []
        deadline = time.monotonic() + 5
        while not read(sink.mails):
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        sink.stop()


def test_many_connections_wait_for_their_answers_at_the_same_time(tmp_path: Path) -> None:
    sink = Sink(tmp_path / "sink", delay_seconds=(0.2, 0.2))
    sink.start()

    def send(number: int) -> None:
        with smtplib.SMTP("127.0.0.1", sink.port, local_hostname="test") as client:
            client.sendmail("a@acme.example", ["jo@example.org"], MAIL.format(id=number))

    try:
        threads = [threading.Thread(target=send, args=(number,)) for number in range(50)]
        begun = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert time.monotonic() - begun < 50 * 0.2 / 2
    finally:
        sink.stop()
    assert len(read(sink.mails)) == 50


def test_some_recipients_are_put_off_once_and_some_do_not_exist(tmp_path: Path) -> None:
    manners = Manners(defer_fraction=0.3, bounce_fraction=0.3)
    people = [f"p{number}@example.org" for number in range(30)]
    sink = Sink(tmp_path / "sink", defer=0.3, bounce=0.3)
    sink.start()
    try:
        with smtplib.SMTP("127.0.0.1", sink.port) as client:
            client.ehlo()
            rounds = []
            for _ in range(2):
                client.rset()
                client.mail("a@acme.example")
                rounds.append([client.rcpt(person)[0] for person in people])
    finally:
        sink.stop()
    first = [550 if manners.bounces(p) else 450 if manners.defers(p) else 250 for p in people]
    assert rounds == [first, [code if code == 550 else 250 for code in first]]
    assert set(first) == {250, 450, 550}
