"""A real `postfleet inbound`, and the servers that send it what came back."""

from __future__ import annotations

import re
import smtplib
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path

from sqlalchemy import text

from fleet import Fleet, Process
from postfleet_workers.mail.returnpath import feedback_address, return_path
from postfleet_workers.mail.tokens import Key, stamp

SECRET = "0123456789abcdef0123456789abcdef"
KEY = Key(SECRET.encode())
DOMAIN = "bounces.example.com"
CORPUS = Path(__file__).parent / "unit" / "inbound" / "corpus"
FEEDBACK = feedback_address(DOMAIN, KEY)

Answer = tuple[int, str]


def path_of(email_id: int) -> str:
    """The mail's return path."""
    return return_path(email_id, DOMAIN, KEY)


def sample(name: str, email_id: int = 7) -> bytes:
    """A report of the corpus, about this mail."""
    found = (CORPUS / f"{name}.eml").read_text()
    found = found.replace("RETURNPATH", f"<{path_of(email_id)}>").replace("STAMP", stamp(KEY, email_id))
    return found.replace("\n", "\r\n").encode()


def notice(action: str, status: str, diagnostic: str, recipient: str = "ann@example.org") -> bytes:
    """A report of our own making."""
    report = EmailMessage()
    report["From"] = "MAILER-DAEMON@mx.example.org"
    report["Subject"] = "Delivery report"
    report.set_content("What became of your mail.")
    report.make_mixed()
    fields = (
        f"Final-Recipient: rfc822; {recipient}\nAction: {action}\nStatus: {status}\nDiagnostic-Code: {diagnostic}\n"
    )
    part = f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example.org\n\n{fields}\n"
    boundary = "frontier"
    report.set_boundary(boundary)
    head, _, _ = report.as_bytes().rpartition(f"--{boundary}--".encode())
    whole = head + f"--{boundary}\n{part}\n--{boundary}--\n".encode()
    return whole.replace(b"\n", b"\r\n")


def sent(fleet: Fleet, recipient: str = "ann@example.org", *, status: str = "sent", tenant: str = "acme") -> int:
    """The id of a mail that a server took."""
    with fleet.engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES (:t) ON CONFLICT DO NOTHING"), {"t": tenant})
        statement = text("""
            INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, status, finished_at)
            SELECT coalesce(max(job_id), 0) + 1, :tenant, 'campaign', 'n1', :recipient, '<1@example.com>', :status,
                   now()
            FROM emails RETURNING id
        """)
        values = {"tenant": tenant, "recipient": recipient, "status": status}
        return int(connection.execute(statement, values).scalar_one())


class Inbound:
    """The process, and mail to it."""

    def __init__(self, fleet: Fleet, **env: str) -> None:
        given = {"POSTFLEET_SECRET_KEY": SECRET, "POSTFLEET_INBOUND_PORT": "0", **env}
        self.process: Process = fleet.start("inbound", env=given)
        found = re.search(r'"port": (\d+), .*"event": "inbound"', self.process.log.read_text())
        assert found, self.process.tail()
        self.port = int(found.group(1))

    @contextmanager
    def connected(self) -> Iterator[smtplib.SMTP]:
        """A session of a server."""
        session = smtplib.SMTP("127.0.0.1", self.port, "mx.example.org", timeout=30)
        try:
            session.ehlo()
            yield session
        finally:  # no QUIT: a 421 may be there already
            session.close()

    def give(self, address: str, content: bytes) -> Answer:
        """The answer to a report, sent as servers do: from nobody."""
        with self.connected() as session:
            session.mail("")
            code, said = session.rcpt(address)
            if code == 250:
                code, said = session.data(content)
            return code, said.decode()
