"""What replies ask for beyond their own mails happens in the transaction that writes them down."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine, text

from mail_bench import Bench
from postfleet_workers.jobs import Outcome
from postfleet_workers.mail.replies.outcome import History, Schedule, Target, outcome_of_reply
from postfleet_workers.mail.replies.reply import Phase, parse

SCHEDULE = Schedule()


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis) -> Iterator[Bench]:
    bench = Bench(engine, redis_client)
    bench.node(1)
    yield bench
    bench.close()


def said(line: str, site: str = "", deferrals: int = 0, age_seconds: float = 0.0) -> Outcome:
    """The outcome of a mail whose RCPT was answered so."""
    history = History(deferrals, age_seconds)
    reply = parse(int(line[:3]), line[4:])
    return outcome_of_reply(reply, Phase.RCPT, Target("acme-1", site, "mx.b.example"), history, SCHEDULE)


def settle(bench: Bench, *found: Outcome) -> None:
    bench.enqueue(*(f"{number}@b.example" for number in range(len(found))))
    jobs, _ = bench.claim()
    bench.settle(jobs, found)


def ask(bench: Bench, query: str) -> list[tuple[object, ...]]:
    with bench.engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


def test_only_an_address_that_a_rule_calls_dead_is_suppressed(bench: Bench) -> None:
    settle(
        bench,
        said("550 5.1.1 no such user"),
        said("550 5.2.1 mailbox disabled"),
        said("550 flurble"),
        said("554 5.7.1 blocked using zen.spamhaus.org"),
        said("552 5.2.2 mailbox full"),
        said("552 5.2.2 mailbox full", deferrals=9, age_seconds=500_000),
        said("451 4.7.1 greylisted", deferrals=9, age_seconds=500_000),
        said("550 5.7.1 looks like spam"),
    )
    assert bench.statuses() == [
        "bounced", "bounced", "bounced", "deferred", "deferred", "bounced", "bounced", "bounced",
    ]  # fmt: skip
    assert ask(bench, "SELECT address, reason FROM suppressions ORDER BY address") == [
        ("0@b.example", "hard_bounce"),
        ("1@b.example", "hard_bounce"),
    ]


def test_where_it_was_tried_and_what_rule_knew_the_reply_is_kept(bench: Bench) -> None:
    settle(bench, said("451 4.7.1 greylisted", "mx:mx.b.example"), said("550 flurble", "gmail"))
    assert [(a["site"], a["host"], a["rule"]) for a in bench.attempts()] == [
        ("mx:mx.b.example", "mx.b.example", "greylisted"),
        ("gmail", "mx.b.example", "fallback:rcpt"),
    ]


def test_what_a_site_asks_for_slows_its_node_down(bench: Bench) -> None:
    deferred = said("421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", "yahoo")
    settle(bench, deferred)
    assert ask(bench, "SELECT * FROM slowdowns") == []
    settle(bench, deferred)
    assert ask(bench, "SELECT node, site, action, rule FROM slowdowns") == [
        ("acme-1", "yahoo", "suspend", "yahoo.complaints")
    ]
