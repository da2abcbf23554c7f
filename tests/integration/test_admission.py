"""What holds a mail at the worker, by which limit, and what becomes of it: sites, slow-downs, warmup, suppression."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text

from dns_lab import DnsLab
from mail_bench import NODE, TENANT, Bench
from mail_lab import Lab
from postfleet_workers import clock
from postfleet_workers.actors.email_send import email_send
from postfleet_workers.jobs import Done, HandBack, Outcome, Snooze
from postfleet_workers.relay import gate
from smtp_lab import running

GMAIL = {"name": "gmail", "perHour": 30}  # one at once, and then none while the test runs


@pytest.fixture
def dns() -> Iterator[DnsLab]:
    with running(DnsLab()) as dns:
        dns.mx("corp.example", (10, "aspmx.l.google.com", "127.0.0.1"))
        dns.mx("b.example", (10, "mx.b.example", "127.0.0.1"))
        dns.mx("c.example", (10, "mx.c.example", "127.0.0.1"))
        yield dns


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis, dns: DnsLab) -> Iterator[Bench]:
    with closing(Bench(engine, redis_client, dns=dns.server)) as bench:
        yield bench


def change(bench: Bench, statement: str, **values: Any) -> None:
    with bench.engine.begin() as connection:
        connection.execute(text(statement), values)
    bench.deps.directory.nodes._values.clear()


def warm_up(bench: Bench, cap: int) -> None:
    plan = {"enabled": True, "startDate": "2020-01-01", "days": [cap] * 10_000}
    change(bench, "UPDATE sending_nodes SET spec = spec || jsonb_build_object('warmup', CAST(:plan AS jsonb))",
           plan=json.dumps(plan))  # fmt: skip


def slow_down(bench: Bench, site: str, action: str, value: int | None = None) -> None:
    change(
        bench,
        "INSERT INTO slowdowns (node, site, action, value, rule, reply, until) "
        "VALUES (:node, :site, :action, :value, 'gmail-unusual-rate', '421 4.7.28', postfleet_now() + interval '1 h')",
        node=NODE, site=site, action=action, value=value,
    )  # fmt: skip


def reasons(found: list[Outcome]) -> list[str]:
    return [getattr(outcome, "reason", "") for outcome in found]


def test_a_spent_site_holds_its_own_mail_and_no_other(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, sites=[GMAIL])
    bench.enqueue("a@gmail.com", "b@googlemail.com", "c@elsewhere.example", "d@gmail.com")
    assert [job["route"] for job in bench.jobs()] == [f"{NODE}/gmail", f"{NODE}/gmail", NODE, f"{NODE}/gmail"]
    found = bench.run()
    held = f"held by node {NODE} at gmail per_hour"
    assert reasons(found) == ["", held, "", held]
    assert bench.statuses() == ["sent", "queued", "sent", "queued"]
    assert [(a["node"], a["site"]) for a in bench.attempts()] == [(NODE, "gmail"), (NODE, None)]


def test_mail_of_a_domain_that_is_found_at_a_spent_site_goes_on_by_the_sites_route(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, sites=[GMAIL])
    bench.enqueue("a@gmail.com", "boss@corp.example")
    found = bench.run()
    assert found[1] == HandBack(f"held by node {NODE} at gmail per_hour", route=f"{NODE}/gmail")
    row = bench.jobs()[1]
    assert (row["route"], row["state"], row["attempt"]) == (f"{NODE}/gmail", "available", 0)


def test_mail_for_a_spent_site_without_a_name_waits_by_itself_and_delays_no_other(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, sites=[{"name": "default", "perHour": 30}])
    bench.enqueue("a@b.example", "z@b.example", "a@c.example")
    first, held, other = bench.run()
    assert (type(first), type(other)) == (Done, Done)
    assert isinstance(held, Snooze)
    assert (held.kind, held.reason) == ("site_limit", f"held by node {NODE} at mx:mx.b.example per_hour")
    row = bench.jobs()[1]
    assert (row["state"], row["attempt"], row["last_error"]) == ("scheduled", 0, held.reason)


@pytest.mark.parametrize(("snoozes", "longest"), [(0, 1), (3, 8), (99, 64)])
def test_the_oftener_it_was_put_back_the_wider_mail_for_such_a_site_is_spread(
    bench: Bench, lab: Lab, snoozes: int, longest: int
) -> None:
    bench.job_type = email_send(replace(bench.deps, jitter=lambda: 0.999))
    bench.node(lab.port, sites=[{"name": "default", "perHour": 30}])
    slow_down(bench, "mx:mx.b.example", "suspend")
    bench.enqueue("a@b.example")
    change(bench, "UPDATE jobs SET snoozes = :n", n=snoozes)
    (held,) = bench.run()
    assert isinstance(held, Snooze)
    assert 3590 + 0.9 * longest < held.seconds < 3600 + longest


def test_a_bundle_does_not_wait_long_for_a_session_with_a_site_without_a_name(
    engine: Engine, redis_client: redis.Redis, dns: DnsLab, lab: Lab
) -> None:
    with closing(Bench(engine, redis_client, dns=dns.server, session_wait_seconds=60)) as bench:
        bench.node(lab.port, sites=[{"name": "default", "maxConnections": 1}])
        assert bench.leases.acquire([(f"{NODE}|mx:mx.b.example", 1)], "another's")
        bench.enqueue("a@b.example", "z@b.example", "a@c.example")
        before = clock.monotonic()
        assert [type(outcome) for outcome in bench.run()] == [Snooze, Snooze, Done]
        assert clock.monotonic() - before < 30


def test_a_suspended_site_gets_nothing_and_the_mail_no_attempt(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, sites=[{"name": "gmail"}])
    slow_down(bench, "gmail", "suspend")
    bench.enqueue("a@gmail.com", "a@elsewhere.example")
    held, other = bench.run()
    assert reasons([held, other]) == [f"node {NODE} at gmail suspended by gmail-unusual-rate", ""]
    assert [row["state"] for row in bench.jobs()] == ["available", "completed"]


def test_a_site_that_is_slowed_down_gets_so_many_mails_and_sessions(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, sites=[{"name": "gmail", "maxConnections": 5}])
    slow_down(bench, "gmail", "per_minute", 1)
    slow_down(bench, "gmail", "connections", 1)
    bench.enqueue("a@gmail.com", "b@gmail.com")
    assert reasons(bench.run()) == ["", f"held by node {NODE} at gmail slowed per_minute"]
    assert not bench.leases.acquire([(f"{NODE}|gmail", 1)], "another's")


def test_a_warmup_counts_what_was_accepted_and_nothing_else(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    warm_up(bench, 50)
    lab.rcpt = {"gone@b.example": "550 5.1.1 no such user", "grey@b.example": "450 4.2.0 greylisted"}
    bench.enqueue("gone@b.example", "grey@b.example", "gone@b.example", "ok@b.example", "late@b.example")
    assert reasons(bench.run())[3:] == ["", f"held by node {NODE} warmup"]
    assert bench.statuses() == ["bounced", "deferred", "bounced", "sent", "queued"]


def test_a_mail_whose_fate_is_unknown_counts_as_accepted(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    warm_up(bench, 50)
    lab.data = {"lost@b.example": "drop"}
    bench.enqueue("lost@b.example", "next@b.example")
    bench.run()
    assert bench.statuses() == ["unknown", "queued"]


@pytest.mark.parametrize("tenant", ["", TENANT])
def test_a_suppressed_recipient_gets_nothing_and_costs_no_permit(bench: Bench, lab: Lab, tenant: str) -> None:
    bench.node(lab.port, perHour=30)
    change(bench, "INSERT INTO suppressions (tenant, address, reason) VALUES (:t, 'gone@b.example', 'hard_bounce')",
           t=tenant)  # fmt: skip
    bench.enqueue("Gone@B.example", "ok@b.example")
    assert [type(outcome) for outcome in bench.run()] == [Done, Done]
    assert bench.statuses() == ["suppressed", "sent"]
    assert [mail.recipient for mail in lab.accepted] == ["ok@b.example"]


def test_the_relay_reads_what_the_worker_asks(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, perHour=100, sites=[GMAIL])
    warm_up(bench, 50)
    slow_down(bench, "gmail", "per_minute", 1)
    change(bench, "INSERT INTO contact_lists (tenant, name) VALUES (:t, 'l')", t=TENANT)
    change(
        bench,
        "INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text, state, per_minute) "
        "SELECT :t, 'c', id, 'a@b.example', '{}', '', '', 'running', 9 FROM contact_lists",
        t=TENANT,
    )
    with bench.engine.begin() as connection:
        rules = gate.read(connection)
        (campaign,) = connection.execute(text("SELECT id FROM campaigns")).scalars()
    assert [limit.name for limit in rules.limits((TENANT, f"campaign:{campaign}", f"{NODE}/gmail"))] == [
        f"node {NODE} per_hour", f"node {NODE} warmup", f"node {NODE} maxConnections",
        f"node {NODE} at gmail per_hour", f"node {NODE} at gmail slowed per_minute", f"campaign {campaign} per_minute",
    ]  # fmt: skip
