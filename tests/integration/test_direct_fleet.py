"""Direct mail through real processes: what several workers do together, as providers see it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace

import pytest
from sqlalchemy import Engine, text

from dns_lab import DnsLab
from fleet import Fleet
from integration.mail_steps import QUEUES, copies, final
from postfleet_workers.mail.outbox import NewEmail, send_email
from provider_lab import GMAIL, YAHOO, ProviderLab
from smtp_lab import running

pytestmark = pytest.mark.faults

GMAIL_HOST, YAHOO_HOST = "gmail-smtp-in.l.google.com", "mta5.am0.yahoodns.net"


class Internet:
    """Two providers and the name server that names them; `env` is for whoever sends there."""

    def __init__(self, stack: ExitStack) -> None:
        self.dns: DnsLab = stack.enter_context(running(DnsLab()))
        self.gmail: ProviderLab = stack.enter_context(
            running(ProviderLab(replace(GMAIL, per_minute=0), host="127.0.0.2", pipelining=True))
        )
        self.yahoo: ProviderLab = stack.enter_context(
            running(ProviderLab(replace(YAHOO, per_minute=0), host="127.0.0.3", port=self.gmail.port))
        )
        self.dns.mx("gmail.com", (5, GMAIL_HOST, "127.0.0.2"))
        self.dns.mx("shop.example", (1, "aspmx.l.google.com", "127.0.0.2"))
        self.dns.mx("yahoo.com", (1, YAHOO_HOST, "127.0.0.3"))
        self.env = {"POSTFLEET_DNS_SERVERS": self.dns.server, "POSTFLEET_MX_LOCAL_ADDRESSES": "true"}

    def node(self, engine: Engine) -> None:
        spec = {
            "smtp": {"host": "mx", "port": self.gmail.port},
            "identity": {"domain": "n1.example"},
            "limits": {},
            "workers": {"placement": "Shared", "poolRef": {"name": "email"}},
        }
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO tenants (name) VALUES ('acme')"))
            connection.execute(
                text("INSERT INTO sending_nodes (name, spec) VALUES ('n1', :s)"), {"s": json.dumps(spec)}
            )


def mail(engine: Engine, *recipients: str) -> None:
    with engine.begin() as connection:
        for to in recipients:
            send_email(connection, NewEmail("acme", to, "n1", "Hello", "Hello there", queue="campaign-standard"))


@pytest.fixture
def internet() -> Iterator[Internet]:
    with ExitStack() as stack:
        yield Internet(stack)


def test_workers_together_keep_to_what_providers_take(fleet: Fleet, engine: Engine, internet: Internet) -> None:
    internet.node(engine)
    fleet.relay()
    for _ in range(2):
        fleet.worker(QUEUES, threads=8, env=internet.env)
    mail(engine, *(f"u{i}@{domain}" for i in range(40) for domain in ("gmail.com", "shop.example", "yahoo.com")))
    assert final(fleet) == {"sent": 120}
    for lab, mails in ((internet.gmail, 80), (internet.yahoo, 40)):
        assert lab.refused == {}
        assert lab.most_open <= lab.profile.connections
        assert (len(lab.accepted), set(copies(lab).values())) == (mails, {1})
    sites = fleet.rows("SELECT DISTINCT site, host FROM email_attempts ORDER BY 1, 2")
    assert [tuple(row) for row in sites] == [
        ("gmail", "aspmx.l.google.com[127.0.0.2]"),
        ("gmail", f"{GMAIL_HOST}[127.0.0.2]"),
        ("yahoo", f"{YAHOO_HOST}[127.0.0.3]"),
    ]


def test_a_worker_that_dies_takes_no_place_at_a_provider_that_another_could_exceed(
    fleet: Fleet, engine: Engine, internet: Internet
) -> None:
    internet.node(engine)
    fleet.relay()
    dying = fleet.worker(QUEUES, threads=8, env=internet.env)
    mail(engine, *(f"u{i}@gmail.com" for i in range(80)))
    fleet.until(lambda: len(internet.gmail.accepted) >= 20, "mail flows")
    dying.kill()
    fleet.worker(QUEUES, threads=8, env=internet.env)
    found = final(fleet, 110)
    assert found["sent"] + found.get("unknown", 0) == 80
    assert found.get("unknown", 0) <= 8
    assert (internet.gmail.refused["connections"], set(copies(internet.gmail).values())) == (0, {1})
