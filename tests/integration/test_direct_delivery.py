"""Mail straight to its recipients' servers, end to end: real rows, a real name server, MX hosts on 127.0.0.x."""

from __future__ import annotations

import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from typing import Any

import pytest
import redis
import trustme
from sqlalchemy import Engine, text

from dns_lab import SERVFAIL, DnsLab
from mail_bench import Bench
from postfleet_workers.jobs import HandBack, Job, Outcome, Snooze
from postfleet_workers.mail.smtp.session import Timeouts
from provider_lab import GMAIL, GREYLISTING, OUTLOOK, TARPIT, YAHOO, Profile, ProviderLab
from smtp_lab import FaultyLab, running
from smtp_lab import Phase as At
from worlds import Clock

FIRST, SECOND = "127.0.0.2", "127.0.0.3"
HOSTS = ((10, "mx1.b.example", FIRST), (20, "mx2.b.example", SECOND))


class World:
    """A bench, a name server, and b.example with two MX hosts at one port."""

    def __init__(
        self,
        stack: ExitStack,
        engine: Engine,
        client: redis.Redis,
        timeouts: Timeouts | None = None,
        **options: Any,
    ) -> None:
        self.dns: DnsLab = stack.enter_context(running(DnsLab()))
        self.first: FaultyLab = stack.enter_context(running(FaultyLab(host=FIRST, **options)))
        self.second: FaultyLab = stack.enter_context(running(FaultyLab(host=SECOND, port=self.first.port, **options)))
        self.dns.mx("b.example", *HOSTS)
        self.bench = stack.enter_context(closing(Bench(engine, client, dns=self.dns.server, timeouts=timeouts)))
        self.node()

    def node(self, tls: str = "Opportunistic", **changes: Any) -> None:
        self.bench.node(self.first.port, host="mx", tls=tls, **changes)

    def send(self, *recipients: str) -> list[Outcome]:
        self.bench.enqueue(*recipients)
        return self.bench.run()

    def attempt(self, number: int = -1) -> dict[str, Any]:
        return self.bench.attempts()[number]


@pytest.fixture
def world(engine: Engine, redis_client: redis.Redis) -> Iterator[World]:
    with ExitStack() as stack:
        yield World(stack, engine, redis_client)


def test_mail_goes_to_the_recipients_preferred_server_and_says_where_it_went(world: World) -> None:
    world.send("ann@b.example", "ben@b.example")
    assert world.bench.statuses() == ["sent", "sent"]
    assert [m.recipient for m in world.first.accepted] == ["ann@b.example", "ben@b.example"]
    assert (world.first.connections, world.second.connections) == (1, 0)
    attempt = world.attempt()
    assert (attempt["host"], attempt["site"]) == (f"mx1.b.example[{FIRST}]", "mx:mx1.b.example,mx2.b.example")


def test_with_the_first_server_dead_mail_goes_to_the_next_and_waits_for_the_dead_one_once(world: World) -> None:
    for _ in range(20):
        world.first.fail(At.BANNER, reply="421 4.3.2 shutting down", drop=True)
    world.node(messagesPerConnection=1)
    world.send(*(f"u{i}@b.example" for i in range(10)))
    assert world.bench.statuses() == ["sent"] * 10
    assert (world.first.connections, world.second.connections) == (1, 10)
    assert world.attempt()["host"] == f"mx2.b.example[{SECOND}]"


def test_where_a_session_ended_and_the_next_is_with_another_server_that_one_is_named(world: World) -> None:
    world.bench.enqueue("ann@b.example", "ben@b.example")
    jobs, run = world.bench.claim()

    def shut(job: Job) -> None:
        if job.id == jobs[0].id:
            world.first.fail(At.MAIL, reply="421 4.3.2 shutting down", drop=True)
            world.first.fail(At.BANNER, reply="421 4.3.2 shutting down", drop=True)

    run.before_dot = shut
    world.bench.settle(jobs, world.bench.perform(jobs, run))
    assert world.bench.statuses() == ["sent", "sent"]
    assert [a["host"] for a in world.bench.attempts()] == [f"mx1.b.example[{FIRST}]", f"mx2.b.example[{SECOND}]"]


def test_with_every_server_away_one_mail_is_deferred_and_the_rest_wait_untried(world: World) -> None:
    world.first.stop()
    world.second.stop()
    found = world.send(*(f"u{i}@b.example" for i in range(5)))
    assert [type(o) for o in found] == [Snooze] * 5
    assert world.bench.statuses() == ["deferred", *["queued"] * 4]
    assert len(world.bench.attempts()) == 1


def test_mail_that_has_waited_for_a_dead_server_is_deferred_untried_and_given_up_when_it_is_too_old(
    world: World,
) -> None:
    world.first.stop()
    world.second.stop()
    world.send(*(f"u{i}@b.example" for i in range(3)))
    with world.bench.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET snoozes = 3"))
    found = world.bench.run_again()
    assert [getattr(outcome, "kind", "") for outcome in found] == ["deferred"] * 3
    assert world.bench.statuses() == ["deferred"] * 3
    with world.bench.engine.begin() as connection:
        connection.execute(text("UPDATE emails SET begun_at = begun_at - interval '6 days'"))
    world.bench.run_again()
    assert world.bench.statuses() == ["bounced"] * 3


def test_one_receivers_outage_does_not_hold_up_the_others(world: World) -> None:
    world.dns.mx("dead.example", (10, "mx.dead.example", "127.0.0.99"))
    world.send("a@dead.example", "ann@b.example", "c@dead.example", "ben@b.example")
    assert world.bench.statuses() == ["deferred", "sent", "queued", "sent"]


@pytest.mark.parametrize(
    ("domain", "status", "code", "scope"),
    [
        ("null.example", "bounced", "5.1.10", "recipient"),
        ("none.example", "bounced", "5.1.2", "recipient"),
        ("broken.example", "deferred", "4.4.3", "destination"),
        ("nowhere.example", "bounced", "5.1.2", "recipient"),
    ],
)
def test_a_domain_that_takes_no_mail_bounces_and_one_that_nobody_answers_for_is_deferred(
    world: World, domain: str, status: str, code: str, scope: str
) -> None:
    world.dns.say("null.example", "MX", "0 .")
    world.dns.say("broken.example", "MX", SERVFAIL)
    world.dns.say("nowhere.example", "MX", "10 mx.gone.example.")
    world.send(f"a@{domain}", "ann@b.example", f"c@{domain}")
    assert world.bench.statuses() == [status, "sent", status]
    attempt = next(a for a in world.bench.attempts() if a["outcome"] == status)
    assert (attempt["enhanced"], attempt["scope"], attempt["phase"]) == (code, scope, "connect")


def test_a_domain_without_mx_gets_its_mail_at_its_own_address(world: World) -> None:
    world.dns.say("plain.example", "A", SECOND)
    world.send("a@plain.example")
    assert world.bench.statuses() == ["sent"]
    assert world.attempt()["host"] == f"plain.example[{SECOND}]"


def work(bench: Bench, threads: int, bundle: int = 5) -> list[Outcome]:
    """Run what is available by several threads, in bundles; what was put back runs again until all is told."""
    jobs, run = bench.claim()
    found: list[Outcome] = []
    parts = [jobs[i : i + bundle] for i in range(0, len(jobs), bundle)]
    lock = threading.Lock()

    def one() -> None:
        while True:
            with lock:
                if not parts:
                    return
                part = parts.pop(0)
            results = bench.perform(part, run)
            with lock:
                found.extend(results)
                bench.settle(part, results)

    workers = [threading.Thread(target=one) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    return found


def test_domains_with_the_same_servers_share_one_limit_on_connections(
    engine: Engine, redis_client: redis.Redis
) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client)
        lab = stack.enter_context(running(ProviderLab(Profile(), host="127.0.0.4", port=world.first.port)))
        for domain in ("one.example", "two.example", "three.example"):
            world.dns.mx(domain, (10, "mx1.host.example", "127.0.0.4"), (20, "mx2.host.example", "127.0.0.4"))
        world.node(sites=[{"name": "default", "maxConnections": 2}])
        world.bench.enqueue(*(f"u{i}@{d}.example" for i in range(10) for d in ("one", "two", "three")))
        work(world.bench, threads=8)
        assert len(lab.accepted) > 0
        assert lab.most_open <= 2


@pytest.mark.parametrize(
    ("profile", "domain", "host"),
    [
        pytest.param(GMAIL, "gmail.com", "gmail-smtp-in.l.google.com", id="gmail"),
        pytest.param(OUTLOOK, "shop.example", "shop-example.mail.protection.outlook.com", id="outlook"),
        pytest.param(YAHOO, "yahoo.com", "mta5.am0.yahoodns.net", id="yahoo"),
    ],
)
def test_a_providers_limits_on_connections_are_never_met(
    engine: Engine, redis_client: redis.Redis, profile: Profile, domain: str, host: str
) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client)
        lab = stack.enter_context(running(ProviderLab(profile, host="127.0.0.4", port=world.first.port)))
        world.dns.mx(domain, (10, host, "127.0.0.4"))
        world.bench.enqueue(*(f"u{i}@{domain}" for i in range(110)))
        work(world.bench, threads=12)
        refused: Counter[str] = lab.refused
        assert (refused["connections"], refused["messages"]) == (0, 0)
        assert lab.most_open <= profile.connections
        assert len({m.recipient for m in lab.accepted}) == len(lab.accepted) == world.bench.statuses().count("sent")


def test_a_provider_that_says_too_fast_defers_and_nothing_is_lost_or_doubled(
    engine: Engine, redis_client: redis.Redis
) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client)
        clock = Clock()
        slow = Profile(per_minute=7, slow_down=GMAIL.slow_down, slow_at=At.DOT)
        lab = stack.enter_context(running(ProviderLab(slow, clock=clock, host="127.0.0.4", port=world.first.port)))
        world.dns.mx("gmail.com", (5, "gmail-smtp-in.l.google.com", "127.0.0.4"))
        found = world.send(*(f"u{i}@gmail.com" for i in range(10)))
        assert world.bench.statuses().count("sent") == len(lab.accepted) == 7
        assert lab.refused["per_minute"] > 0
        assert {a["scope"] for a in world.bench.attempts() if a["outcome"] == "deferred"} == {"source"}
        assert not [o for o in found if isinstance(o, HandBack)]
        clock.advance(60)
        world.bench.run_again()
        assert world.bench.statuses() == ["sent"] * 10
        assert len({m.recipient for m in lab.accepted}) == len(lab.accepted) == 10


def test_greylisting_is_passed_by_a_later_try_from_the_same_address(engine: Engine, redis_client: redis.Redis) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client)
        clock = Clock()
        lab = stack.enter_context(
            running(ProviderLab(GREYLISTING, clock=clock, host="127.0.0.4", port=world.first.port))
        )
        world.dns.mx("grey.example", (10, "mx.grey.example", "127.0.0.4"))
        world.node(addresses=["127.0.0.21", "127.0.0.22", "127.0.0.23"])
        (outcome,) = world.send("a@grey.example")
        assert isinstance(outcome, Snooze)
        assert outcome.seconds >= GREYLISTING.greylist_seconds
        clock.advance(outcome.seconds)
        world.bench.run_again()
        assert world.bench.statuses() == ["sent"]
        assert len(set(lab.sources)) == 1
        assert [a["scope"] for a in world.bench.attempts()] == ["recipient", None]


def test_a_tarpit_is_waited_for(engine: Engine, redis_client: redis.Redis) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client)
        lab = stack.enter_context(running(ProviderLab(TARPIT, host="127.0.0.4", port=world.first.port)))
        world.dns.mx("slow.example", (10, "mx.slow.example", "127.0.0.4"))
        world.send("a@slow.example", "ann@b.example")
        assert world.bench.statuses() == ["sent", "sent"]
        assert len(lab.accepted) == 1


# Faults: never a second server once a mail was offered to the first


BEFORE_MAIL = [At.CONNECT, At.BANNER, At.EHLO]
IN_MAIL = [At.MAIL, At.RCPT, At.DATA]


@pytest.mark.parametrize("at", BEFORE_MAIL)
def test_a_connection_that_drops_before_mail_begins_costs_nothing(world: World, at: At) -> None:
    world.first.fail(at, drop=True)
    world.send("ann@b.example")
    assert world.bench.statuses() == ["sent"]
    assert (len(world.first.accepted), len(world.second.accepted)) == (0, 1)


@pytest.mark.parametrize("at", IN_MAIL)
@pytest.mark.parametrize("how", ["dropped", "refused"])
def test_a_mail_that_was_offered_waits_and_is_not_offered_to_the_next_server(world: World, at: At, how: str) -> None:
    if how == "dropped":
        world.first.fail(at, drop=True)
    else:
        world.first.fail(at, reply="451 4.3.0 not now")
    world.send("ann@b.example")
    assert world.bench.statuses() == ["deferred"]
    assert (world.second.connections, world.attempt()["host"]) == (0, f"mx1.b.example[{FIRST}]")
    world.bench.run_again()
    assert world.bench.statuses() == ["sent"]
    assert len(world.first.accepted + world.second.accepted) == 1


@pytest.mark.parametrize("stall", [False, True], ids=["dropped", "silent"])
def test_a_lost_reply_to_the_dot_is_unknown_and_no_other_server_sees_the_mail(
    engine: Engine, redis_client: redis.Redis, stall: bool
) -> None:
    with ExitStack() as stack:
        bench = (world := World(stack, engine, redis_client, Timeouts(5, 5, 0.3))).bench
        bench.enqueue("ann@b.example")
        release = threading.Event()
        world.first.fail(At.DOT, drop=True, release=release if stall else None)
        bench.run()
        release.set()
        assert bench.statuses() == ["unknown"]
        assert (world.second.connections, bench.attempts()[0]["host"]) == (0, f"mx1.b.example[{FIRST}]")
        assert bench.run_again() == []


def test_a_slow_reply_to_the_dot_is_waited_for(world: World) -> None:
    release = threading.Event()
    stuck = world.first.fail(At.DOT, release=release)
    world.bench.enqueue("ann@b.example")
    running_ = threading.Thread(target=world.bench.run)
    running_.start()
    assert stuck.reached.wait(20)
    release.set()
    running_.join(20)
    assert world.bench.statuses() == ["sent"]
    assert world.second.connections == 0


# TLS


@pytest.fixture(scope="module")
def server_tls() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("mx1.b.example", "mx2.b.example").configure_cert(context)
    return context


@pytest.mark.parametrize(("fault", "secured"), [("", 1), ("drop", 0)])
def test_opportunistic_tls_is_used_or_done_without(
    engine: Engine, redis_client: redis.Redis, server_tls: ssl.SSLContext, fault: str, secured: int
) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client, tls=server_tls, tls_fault=fault)
        world.send("ann@b.example")
        assert world.bench.statuses() == ["sent"]
        assert world.first.secured == secured


def test_required_tls_that_cannot_be_had_defers_and_says_nothing_in_clear(
    engine: Engine, redis_client: redis.Redis, server_tls: ssl.SSLContext
) -> None:
    with ExitStack() as stack:
        world = World(stack, engine, redis_client, tls=server_tls)
        world.node(tls="StartTLS")
        world.send("ann@b.example")
        (attempt,) = world.bench.attempts()
        assert (attempt["outcome"], attempt["phase"], attempt["scope"]) == ("deferred", "starttls", "destination")
        assert "certificate not trusted" in attempt["reply"]
        assert not [what for what in (*world.first.log, *world.second.log) if "MAIL" in str(what)]


def test_an_address_that_is_not_this_machines_is_ours_to_mend(world: World) -> None:
    world.node(addresses=["203.0.113.9"])
    (outcome,) = world.send("ann@b.example")
    assert isinstance(outcome, Snooze)
    assert outcome.kind == "address_missing"
    assert world.bench.statuses() == ["queued"]
    assert "203.0.113.9 (identity.ipAddresses): it is no address of this machine" in world.attempt()["reply"]
    world.node()
    world.bench.run_again()
    assert world.bench.statuses() == ["sent"]


def test_behind_a_smarthost_no_name_server_is_asked(world: World) -> None:
    world.bench.node(world.first.port)
    with running(FaultyLab(port=world.first.port)) as smarthost:
        world.send("ann@b.example")
        assert len(smarthost.accepted) == 1
    assert world.dns.asked == []
    assert world.attempt()["host"] == "127.0.0.1"
