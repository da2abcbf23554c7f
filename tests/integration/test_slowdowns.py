"""What receivers answer, and how new an address is, bounds what leaves: through relay, worker and an SMTP server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from sqlalchemy import Engine

from fleet import Fleet
from integration.ledger_steps import ask, change
from integration.mail_steps import QUEUES, statuses
from postfleet_workers.mail.outbox import NewEmail, send_email
from smtp_lab import FaultyLab, Phase, running


class Mistrusting(FaultyLab):
    """Takes mail of all but those at yahoo.com, while it is `cross`."""

    cross = True
    asked = 0

    def judge(self, phase: Phase, conversation: Any) -> str | None:
        if phase is not Phase.RCPT or not conversation.recipient.endswith("@yahoo.com"):
            return None
        self.asked += 1
        words = "451 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to user complaints"
        return words if self.cross else None


@pytest.fixture
def lab() -> Iterator[Mistrusting]:
    with ExitStack() as stack:
        yield stack.enter_context(running(Mistrusting()))


def add_node(engine: Engine, port: int, **fields: Any) -> None:
    spec = {
        "smtp": {"host": "127.0.0.1", "port": port, "tls": "None"},
        "identity": {"domain": "n1.example"},
        "limits": {"sites": [{"name": "yahoo", "perMinute": 60_000}, {"name": "gmail", "perMinute": 60_000}]},
        **fields,
    }
    change(engine, "INSERT INTO tenants (name) VALUES ('acme')")
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES ('n1', :spec)", spec=json.dumps(spec))


def mail(engine: Engine, *recipients: str) -> None:
    with engine.begin() as connection:
        for recipient in recipients:
            send_email(connection, NewEmail("acme", recipient, "n1", "Hello", "Hello there", queue="campaign-standard"))


def test_a_site_that_complains_gets_nothing_for_a_while_and_the_others_get_theirs(
    fleet: Fleet, engine: Engine, lab: Mistrusting
) -> None:
    add_node(engine, lab.port)
    fleet.relay()
    worker = fleet.worker(QUEUES, threads=2)
    mail(engine, "a@yahoo.com", "b@yahoo.com")
    slow = "SELECT site, action, rule, reply FROM slowdowns"
    fleet.until(lambda: ask(engine, slow), "the slow-down begins")
    [(site, action, rule, reply)] = ask(engine, slow)
    assert (site, action, rule) == ("yahoo", "suspend", "yahoo.complaints")
    assert "[TSS04]" in reply

    worker.stop()  # so that nobody goes by what was read before
    fleet.worker(QUEUES, threads=2)
    mail(engine, "c@yahoo.com", "d@yahoo.com", *(f"u{number}@gmail.com" for number in range(5)))
    fleet.until(lambda: statuses(fleet).get("sent") == 5, "the others' mail leaves")
    assert statuses(fleet) == {"deferred": 2, "queued": 2, "sent": 5}
    assert lab.asked == 2, "nothing went to yahoo after it complained"

    lab.cross = False
    change(engine, "UPDATE slowdowns SET until = postfleet_now() - interval '1 second'")
    fleet.until(lambda: statuses(fleet).get("sent") == 7, "yahoo's mail leaves when its time is over")


def test_a_new_address_sends_no_more_than_its_warmup_allows(fleet: Fleet, engine: Engine, lab: Mistrusting) -> None:
    ((today,),) = ask(engine, "SELECT CAST(postfleet_now() AT TIME ZONE 'UTC' AS date)")
    add_node(engine, lab.port, warmup={"enabled": True, "startDate": today.isoformat(), "initialPerDay": 10})
    lab.fail(Phase.RCPT, reply="450 4.2.0 Greylisted")
    fleet.relay()
    fleet.worker(QUEUES, threads=2)
    mail(engine, *(f"u{number}@example.org" for number in range(4)))
    # What was put off has used nothing of the day: the next takes its place, and the rest waits for hours.
    fleet.until(lambda: statuses(fleet) == {"deferred": 1, "sent": 1, "queued": 2}, "the cap is reached")
