"""Steps of tests that hold one SMTP session: open it, and hand a mail over."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.message.compose import Skeleton
from postfleet_workers.mail.message.headers import address
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.smtp import opening
from postfleet_workers.mail.smtp import session as smtp
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts
from postfleet_workers.mail.smtp.transactions import Transaction, carry_out

QUICK = Timeouts(connect=5, reply=5, dot=5)
opened: list[SmtpSession] = []


def node(port: int, tls: str = "None", **smtp_fields: Any) -> NodeSpec:
    spec = {
        "smtp": {"host": "127.0.0.1", "port": port, "tls": tls, **smtp_fields},
        "identity": {"domain": "acme.example"},
    }
    return parse_node("acme-1", spec)


def connect(
    port: int,
    tls: str = "None",
    login: Login | None = None,
    timeouts: Timeouts = QUICK,
    trust: ssl.SSLContext | None = None,
) -> SmtpSession:
    session = opening.connect(node(port, tls), login, timeouts=timeouts, tls=trust or ssl.create_default_context())
    opened.append(session)
    return session


def mail(number: int = 1, text: str = "hello", to: str = "ann@b.example") -> bytes:
    return Skeleton.prepare("n@acme.example", None, "acme.example").compose(
        mark=str(number), message_id=f"<m{number}@acme.example>", to=address(to), subject="s", text=text, html=None,
        date=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip


def deliver(
    session: SmtpSession,
    number: int = 1,
    to: str = "ann@b.example",
    before_dot: Callable[[], bool] = lambda: True,
    **changes: Any,
) -> smtp.Answer | None:
    transaction = Transaction(session, "n@acme.example", to, mail(number, to=to, **changes))
    carry_out([transaction], lambda _: before_dot(), lambda _: None)
    if transaction.error:
        raise transaction.error
    return transaction.answer
