"""A week of deferrals in seconds: the database's clock is moved to the next time that something is due.

Everything but the waiting is real: PostgreSQL, Redis, the relay's promotion, sessions with a server that greylists.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, event, text

from mail_bench import Bench, BenchRun
from postfleet_workers import ledger, outcomes
from postfleet_workers.actors.email_send import email_send
from postfleet_workers.jobs import Registry
from postfleet_workers.mail.replies.deferral import JITTER, LONGEST_SECONDS
from postfleet_workers.mail.replies.outcome import Schedule
from postfleet_workers.relay import rows
from provider_lab import GREYLISTING, ProviderLab
from smtp_lab import Conversation, Phase, running

DAY = 86_400.0
BASE_SECONDS = 300.0
WEEK = Schedule(BASE_SECONDS, 7 * DAY)
QUEUES = ("campaign-standard", "retry")


class VirtualClock:
    """A clock that is moved by hand, and the database's with it: its offset is set on each connection's checkout."""

    def __init__(self, engine: Engine) -> None:
        self._began = datetime.now(UTC)
        self._ahead = timedelta()
        event.listen(engine, "checkout", self._set)

    def now(self) -> datetime:
        return datetime.now(UTC) + self._ahead

    def seconds(self) -> float:
        """Since the beginning."""
        return (self.now() - self._began).total_seconds()

    def advance(self, to: datetime) -> None:
        self._ahead += max(to - self.now(), timedelta())

    def _set(self, connection: Any, record: Any, proxy: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("SELECT set_config('postfleet.clock_offset', %s, false)", [f"{self._ahead.total_seconds()} s"])
        cursor.close()
        connection.commit()


class Receiver(ProviderLab):
    """Greylists `grey-…`, puts off `never-…` for ever, and `full-…` for three days with a 5xx that means later."""

    def judge(self, phase: Phase, conversation: Conversation) -> str | None:
        if phase is Phase.RCPT and conversation.recipient.startswith("never"):
            return "451 4.3.0 Temporary lookup failure"
        if phase is Phase.RCPT and conversation.recipient.startswith("full"):
            return "552 5.2.2 Mailbox full" if self.clock() < 3 * DAY else None
        return super().judge(phase, conversation)


@dataclass
class VirtualRun(BenchRun):
    clock: VirtualClock = field(kw_only=True)

    def now(self) -> datetime:
        return self.clock.now()


@pytest.fixture
def clock(engine: Engine) -> VirtualClock:
    return VirtualClock(engine)


@pytest.fixture
def lab(clock: VirtualClock) -> Iterator[Receiver]:
    with running(Receiver(GREYLISTING, clock=clock.seconds)) as lab:
        yield lab


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis, lab: Receiver) -> Iterator[Bench]:
    bench = Bench(engine, redis_client, schedule=WEEK)
    bench.deps = replace(bench.deps, jitter=random.Random(7).random)
    bench.job_type = email_send(bench.deps)
    bench.registry = Registry([bench.job_type])
    bench.node(lab.port)
    yield bench
    bench.close()


def turn(bench: Bench, clock: VirtualClock) -> None:
    """Let the workers run all that is due."""
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE workers SET lease_until = postfleet_now() + interval '1 hour'"))
        rows.promote(connection, QUEUES, 1000)
    jobs, claimed = bench.claim()
    began = clock.now()
    found = bench.perform(jobs, VirtualRun(bench, claimed.claim, clock=clock))
    results = [
        ledger.Result(job, outcome, outcomes.move(job, bench.job_type, outcome, 15, 0.0), began)
        for job, outcome in zip(jobs, found, strict=True)
    ]
    with bench.engine.begin() as connection:
        ledger.settle(connection, results, worker="w1", registry=bench.registry)


def next_due(bench: Bench) -> datetime | None:
    with bench.engine.begin() as connection:
        due: datetime | None = connection.execute(
            text("SELECT min(run_at) FROM jobs WHERE state NOT IN ('completed', 'cancelled', 'discarded')")
        ).scalar_one()
        return due


def test_a_week_of_deferrals(bench: Bench, lab: Receiver, clock: VirtualClock) -> None:
    kinds = ("grey", "never", "full")
    bench.enqueue(*(f"{kind}-{number}@b.example" for kind in kinds for number in range(4)))
    turn(bench, clock)
    while (due := next_due(bench)) is not None:
        clock.advance(due)
        turn(bench, clock)

    emails = {row["id"]: row for row in bench.emails()}
    tries: dict[str, list[list[dict[str, Any]]]] = {kind: [] for kind in kinds}
    for row in emails.values():
        kind = row["recipient"].split("-")[0]
        tries[kind].append([a for a in bench.attempts() if a["email_id"] == row["id"]])

    def seconds(attempts: list[dict[str, Any]]) -> list[float]:
        """When each try ended, since the mail was first tried."""
        begun = emails[attempts[0]["email_id"]]["begun_at"]
        return [(a["finished_at"] - begun).total_seconds() for a in attempts]

    for attempts in tries["grey"]:  # the first wait is long enough for greylisting
        assert [a["outcome"] for a in attempts] == ["deferred", "sent"]
    for attempts in tries["full"]:  # whoever empties the mailbox gets the mail
        assert {a["outcome"] for a in attempts[:-1]} == {"deferred"}
        assert attempts[-1]["outcome"] == "sent"
        assert seconds(attempts)[-2] < 3 * DAY <= seconds(attempts)[-1]
    for attempts in tries["never"]:
        at = seconds(attempts)
        assert [a["outcome"] for a in attempts] == ["deferred"] * (len(attempts) - 1) + ["bounced"]
        assert attempts[-1]["reply"].startswith(f"given up after {len(attempts) - 1} deferrals: 451 4.3.0")
        assert at[-1] == pytest.approx(7 * DAY, abs=30)  # the last try is made at the maximum age
        waits = [after - before for before, after in pairwise(at)]
        for number, wait in enumerate(waits[:-1]):
            least = min(BASE_SECONDS * 2**number, LONGEST_SECONDS)
            assert least <= wait <= least * (1 + JITTER) + 30  # jitter only adds
        assert 29 <= len(attempts) <= 35

    assert {a["node"] for a in bench.attempts()} == {"acme-1"}
    assert {row["queue"] for row in bench.jobs()} == {"retry"}
    assert {row["attempt"] for row in bench.jobs()} == {1}  # a deferral is none of a job's attempts
    assert len({mail.message_id for mail in lab.accepted}) == len(lab.accepted) == 8
    assert not [a for a in lab.accepted if a.recipient.startswith("never")]
    with bench.engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM suppressions")).scalar_one() == 0
