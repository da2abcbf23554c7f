"""Steps of the tests that send mail through real processes: add a node, send mail, wait until all is settled, count."""

from __future__ import annotations

import json
from collections import Counter

from sqlalchemy import Engine, text

from fleet import Fleet
from mail_lab import Lab
from postfleet_workers.mail.outbox import NewEmail, send_email
from smtp_lab import FaultyLab

QUEUES = "priority-high,campaign-standard,retry"


def add_node(
    engine: Engine, name: str, port: int, tenant: str = "acme", *, placement: str = "Shared", **limits: int
) -> None:
    """Make a node, and a tenant."""
    spec = {
        "smtp": {"host": "127.0.0.1", "port": port, "tls": "None"},
        "identity": {"domain": f"{name}.example"},
        "limits": {"maxConnections": 20, "messagesPerConnection": 100, **limits},
        "workers": {"placement": placement, "poolRef": {"name": "email"}},
        "tenants": [],
        "paused": False,
    }
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES (:t) ON CONFLICT DO NOTHING"), {"t": tenant})
        connection.execute(
            text("INSERT INTO sending_nodes (name, spec) VALUES (:n, :s)"), {"n": name, "s": json.dumps(spec)}
        )


def mail(
    engine: Engine, count: int, *, node: str = "n1", tenant: str = "acme", queue: str = "campaign-standard"
) -> None:
    """Send so many."""
    with engine.begin() as connection:
        for number in range(count):
            to = f"{tenant}-{queue}-{number}@example.org"
            send_email(connection, NewEmail(tenant, to, node, "Hello", "Hello there", queue=queue))


def statuses(fleet: Fleet) -> dict[str, int]:
    """Emails by status."""
    return dict(tuple(row) for row in fleet.rows("SELECT status, count(*) FROM emails GROUP BY 1"))


def final(fleet: Fleet, seconds: float = 60) -> dict[str, int]:
    """Wait until every email is settled; their statuses."""
    fleet.until(lambda: not set(statuses(fleet)) & {"queued", "sending", "deferred"}, "all emails final", seconds)
    return statuses(fleet)


def copies(lab: FaultyLab | Lab) -> Counter[str]:
    """How often the receiver accepted each mail."""
    return Counter(mail.message_id for mail in lab.accepted)
