"""One urgent mail a second beside the campaign, through `send_email`, as an application would send it."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import structlog
from sqlalchemy import Engine, text

from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.store.session import transaction

log = structlog.get_logger(__name__)

KNOWN = text("SELECT true FROM jobs WHERE type = 'email.send' AND unique_key = :key")


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sends: tenant, node and From address."""

    tenant: str
    node: str
    address: str


class Urgent:
    """A thread that sends until it is stopped. `sent` counts what is in the ledger."""

    def __init__(self, engine: Engine, sender: Sender, every_seconds: float = 1.0) -> None:
        self.sent = 0
        self._engine = engine
        self._sender = sender
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="urgent", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End; what was sent is in the ledger."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self._send(self._mail(self.sent + 1))
                self.sent += 1
            except StoreUnavailable as error:
                log.warning("urgent_mail_waits", error=str(error))
            self._stop.wait(self._every_seconds)

    def _send(self, mail: NewEmail) -> None:
        with transaction(self._engine) as connection:
            # A commit whose answer was lost may have come through.
            if connection.scalar(KNOWN, {"key": mail.unique_key}) is None:
                send_email(connection, mail)

    def _mail(self, number: int) -> NewEmail:
        return NewEmail(
            tenant=self._sender.tenant,
            node=self._sender.node,
            sender=self._sender.address,
            to=f"customer-{number}@example.org",
            subject="Your sign-in code is {{ contact.code }}",
            text="Hello,\n\nyour code is {{ contact.code }}. It works for ten minutes.\n",
            vars={"code": f"{number * 7919 % 1_000_000:06d}"},
            unique_key=f"demo-urgent-{number}",
        )
