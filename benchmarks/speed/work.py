"""One mail's work without Postfleet: read the row, make the mail from a prepared template, hand it over, commit.

What the loops and the peers do is the least that such a program does: no journal, no limits, no retries, no second row
per attempt. Where a worker dies a mail may be sent twice.
"""

from __future__ import annotations

import os
import smtplib
import socket
import threading
from collections.abc import Sequence
from email.utils import formatdate
from typing import Any

import psycopg

from speed.mails import DOMAIN, HTML, SUBJECT, TEXT

READ = "SELECT id, recipient, name, city FROM bench_mails WHERE id = %s AND state = 'queued'"
READ_MANY = "SELECT id, recipient, name, city FROM bench_mails WHERE id = ANY(%s) AND state = 'queued'"
DONE = "UPDATE bench_mails SET state = 'sent', reply = %s, done_at = clock_timestamp() WHERE id = %s"
DONE_MANY = """
UPDATE bench_mails b SET state = 'sent', reply = d.reply, done_at = clock_timestamp()
FROM unnest(%s::bigint[], %s::text[]) AS d(id, reply) WHERE b.id = d.id
"""
SENDER = f"news@{DOMAIN}"
_BOUNDARY = "=_bench"


def _template() -> str:
    text, html, subject = (
        part.replace("%", "%%")
        .replace("{{ contact.name }}", "%(name)s")
        .replace("{{ contact.city }}", "%(city)s")
        .replace("\n", "\r\n")
        for part in (TEXT, HTML, SUBJECT)
    )
    head = (
        f"Date: %(date)s\r\nFrom: News <{SENDER}>\r\nTo: %(recipient)s\r\nSubject: {subject}\r\n"
        f"Message-ID: <%(id)s@{DOMAIN}>\r\nMIME-Version: 1.0\r\n"
        f'Content-Type: multipart/alternative;\r\n boundary="{_BOUNDARY}"\r\n\r\n'
    )
    part = f'--{_BOUNDARY}\r\nContent-Type: text/%s; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n%s\r\n'
    return head + part % ("plain", text) + part % ("html", html) + f"--{_BOUNDARY}--\r\n"


TEMPLATE = _template()


def render(row: Sequence[Any]) -> bytes:
    """The whole message."""
    number, recipient, name, city = row
    values = {"id": number, "recipient": recipient, "name": name, "city": city, "date": formatdate()}
    return (TEMPLATE % values).encode()


class Hands(threading.local):
    """A thread's connections, opened when first used."""

    def __init__(self) -> None:
        self.rows = psycopg.connect(os.environ["BENCH_DATABASE_URL"], autocommit=True, application_name="bench-work")
        self.rows.prepare_threshold = 1
        self.smtp = smtplib.SMTP("127.0.0.1", int(os.environ["BENCH_SMTP_PORT"]), local_hostname=DOMAIN)
        if self.smtp.sock is not None:
            self.smtp.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.smtp.ehlo()

    def send_one(self, number: int) -> None:
        """The whole work of one mail, as people write it: smtplib, a read and a commit of its own."""
        row = self.rows.execute(READ, (number,)).fetchone()
        if row is None:
            return
        self.smtp.sendmail(SENDER, [row[1]], render(row))
        self.rows.execute(DONE, ("250", number))

    def send_many(self, numbers: Sequence[int]) -> None:
        """Fifty at a time: one read, MAIL, RCPT and DATA in one packet (RFC 2920), one commit."""
        ids, replies = [], []
        for row in self.rows.execute(READ_MANY, (list(numbers),)).fetchall():
            ids.append(row[0])
            replies.append(self._pipelined(row[1], render(row)))
        self.rows.execute(DONE_MANY, (ids, replies))

    def _pipelined(self, recipient: str, message: bytes) -> str:
        sock = self.smtp.sock
        assert sock is not None  # noqa: S101 - opened above
        sock.sendall(f"MAIL FROM:<{SENDER}>\r\nRCPT TO:<{recipient}>\r\nDATA\r\n".encode())
        answer = b""
        while answer.count(b"\r\n") < 3:
            answer += sock.recv(4096)
        if not answer.rpartition(b"\r\n3")[2].startswith(b"54"):
            raise smtplib.SMTPException(answer.decode())
        sock.sendall(message + b".\r\n")
        answer = sock.recv(4096)
        if not answer.startswith(b"250"):
            raise smtplib.SMTPException(answer.decode())
        return answer.decode().strip()


_hands: Hands | None = None
_lock = threading.Lock()


def hands() -> Hands:
    """This thread's connections."""
    global _hands
    with _lock:
        if _hands is None:
            _hands = Hands()
    return _hands
