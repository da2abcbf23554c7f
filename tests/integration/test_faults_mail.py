"""Faults of the road that mail takes. What counts is what the SMTP server accepted, not what our tables say."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine

from fleet import Fleet
from integration.mail_steps import QUEUES, add_node, copies, final, mail, statuses
from mail_lab import Lab
from smtp_lab import FaultyLab, Phase

pytestmark = pytest.mark.faults


@pytest.fixture
def lab() -> Iterator[FaultyLab]:
    lab = FaultyLab()
    yield lab
    lab.stop()


BEFORE_THE_DOT = [Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.MAIL, Phase.RCPT, Phase.DATA]


@pytest.mark.parametrize("phase", BEFORE_THE_DOT)
def test_a_worker_killed_before_the_dot_sends_the_mail_again(
    fleet: Fleet, engine: Engine, lab: FaultyLab, phase: Phase
) -> None:
    add_node(engine, "n1", lab.port)
    release = threading.Event()
    fault = lab.fail(phase, release=release, drop=True)
    fleet.relay()
    victim = fleet.worker(QUEUES, threads=2)
    mail(engine, 1)
    assert fault.reached.wait(20)
    victim.kill()
    release.set()
    fleet.worker(QUEUES, threads=2)
    assert final(fleet) == {"sent": 1}
    assert list(copies(lab).values()) == [1]


def test_a_worker_killed_after_the_dot_leaves_one_unknown_that_nobody_sends_again(
    fleet: Fleet, engine: Engine, lab: FaultyLab
) -> None:
    add_node(engine, "n1", lab.port)
    release = threading.Event()
    fault = lab.fail(Phase.DOT, release=release)
    fleet.relay()
    victim = fleet.worker(QUEUES, threads=2)
    mail(engine, 1)
    assert fault.reached.wait(20)
    victim.kill()
    release.set()
    fleet.worker(QUEUES, threads=2)
    assert final(fleet) == {"unknown": 1}
    assert fleet.states() == {"completed": 1}
    assert list(copies(lab).values()) == [1], "the server had it all along"


def test_a_reply_that_was_journalled_but_not_written_completes_the_mail(
    fleet: Fleet, engine: Engine, lab: FaultyLab
) -> None:
    add_node(engine, "n1", lab.port, maxConnections=1)
    fleet.execute("INSERT INTO tenants (name) VALUES ('warm')")
    fleet.relay()
    victim = fleet.worker(QUEUES, threads=2)
    mail(engine, 3)  # bundles of one: the route gets measured
    assert final(fleet) == {"sent": 3}
    victim.signal(signal.SIGSTOP)  # so that the next ones travel as one bundle
    mail(engine, 6)
    release = threading.Event()
    lab.fail(Phase.RCPT)
    lab.fail(Phase.RCPT)
    fault = lab.fail(Phase.RCPT, release=release, drop=True)
    victim.signal(signal.SIGCONT)
    assert fault.reached.wait(20)
    victim.kill()
    release.set()
    fleet.worker(QUEUES, threads=2)
    assert final(fleet) == {"sent": 9}
    assert set(copies(lab).values()) == {1}


class Frozen:
    """A worker stopped for longer than its lease while it sends one mail."""

    def __init__(self, fleet: Fleet, engine: Engine, lab: FaultyLab) -> None:
        self.fleet, self.lab = fleet, lab
        add_node(engine, "n1", lab.port)
        fleet.relay()
        self.worker = fleet.worker(QUEUES, threads=1)

    def rescued(self) -> None:
        self.fleet.until(lambda: self.fleet.states().get("executing", 0) == 0, "rescued")

    def resume(self) -> None:
        self.worker.signal(signal.SIGCONT)
        self.fleet.until(
            lambda: self.fleet.rows("SELECT 1 FROM job_attempts WHERE fenced"), "the late outcome kept as an attempt"
        )


def test_frozen_before_the_journal_another_sends_and_the_late_one_does_not(
    fleet: Fleet, engine: Engine, lab: FaultyLab
) -> None:
    frozen = Frozen(fleet, engine, lab)
    release = threading.Event()
    fault = lab.fail(Phase.RCPT, release=release)
    mail(engine, 1)
    assert fault.reached.wait(20)
    frozen.worker.signal(signal.SIGSTOP)
    frozen.rescued()
    fleet.worker(QUEUES, threads=1)
    assert final(fleet) == {"sent": 1}
    release.set()
    frozen.resume()
    assert list(copies(lab).values()) == [1]
    assert statuses(fleet) == {"sent": 1}


def test_frozen_between_the_journal_and_the_dot_is_unknown_and_sent_at_most_once(
    fleet: Fleet, engine: Engine, lab: FaultyLab, redis_client: redis.Redis
) -> None:
    frozen = Frozen(fleet, engine, lab)
    release = threading.Event()
    fault = lab.fail(Phase.DATA, release=release)
    mail(engine, 1)
    assert fault.reached.wait(20)
    # The journal's write is on its way to Redis, which does not answer yet, when the worker freezes.
    redis_client.client_pause(4000, all=False)
    release.set()
    # Of all connections only the journal's speak protocol 2.
    blocked = lambda: [c for c in redis_client.client_list() if "b" in c["flags"] and c["resp"] == "2"]  # noqa: E731
    fleet.until(blocked, "the journal's write waits")
    frozen.worker.signal(signal.SIGSTOP)
    redis_client.client_unpause()
    frozen.rescued()
    fleet.worker(QUEUES, threads=1)
    assert final(fleet) == {"unknown": 1}
    frozen.resume()
    assert sum(copies(lab).values()) <= 1
    assert statuses(fleet) == {"unknown": 1}


def test_frozen_after_the_dot_is_unknown_and_never_sent_again(fleet: Fleet, engine: Engine, lab: FaultyLab) -> None:
    frozen = Frozen(fleet, engine, lab)
    release = threading.Event()
    fault = lab.fail(Phase.DOT, release=release)
    mail(engine, 1)
    assert fault.reached.wait(20)
    frozen.worker.signal(signal.SIGSTOP)
    frozen.rescued()
    fleet.worker(QUEUES, threads=1)
    assert final(fleet) == {"unknown": 1}
    release.set()
    frozen.resume()
    assert list(copies(lab).values()) == [1]
    rows = fleet.rows("SELECT fenced, outcome FROM email_attempts ORDER BY id")
    assert [tuple(row) for row in rows] == [(False, "unknown"), (True, "sent")]


def test_sigterm_while_the_reply_is_awaited_is_written_unknown_by_the_worker_itself(
    fleet: Fleet, engine: Engine, lab: FaultyLab
) -> None:
    add_node(engine, "n1", lab.port)
    release = threading.Event()
    fault = lab.fail(Phase.DOT, release=release)
    relay = fleet.relay()
    worker = fleet.worker(QUEUES, threads=2, shutdown_timeout=1)
    mail(engine, 1)
    assert fault.reached.wait(20)
    relay.stop()
    assert worker.stop() == 0
    assert statuses(fleet) == {"unknown": 1}
    release.set()


def test_urgent_mail_passes_while_every_bulk_thread_waits_for_its_dot(
    fleet: Fleet, engine: Engine, lab: FaultyLab
) -> None:
    add_node(engine, "bulk", lab.port)
    urgent = Lab()
    add_node(engine, "urgent", urgent.port)
    release = threading.Event()
    stuck = [lab.fail(Phase.DOT, release=release) for _ in range(7)]
    fleet.relay()
    fleet.worker(QUEUES, threads=8)
    mail(engine, 40, node="bulk")
    fleet.until(lambda: all(fault.reached.is_set() for fault in stuck), "every bulk thread waits")
    mail(engine, 30, node="urgent", queue="priority-high")
    fleet.until(lambda: len(urgent.accepted) == 30, "urgent mail delivered", seconds=20)
    assert not lab.accepted, "and no bulk thread had come free"
    release.set()
    assert final(fleet) == {"sent": 70}
    urgent.stop()


def test_a_limited_node_is_not_published_in_vain_and_delays_nobody(fleet: Fleet, engine: Engine) -> None:
    slow, fast = Lab(), Lab()
    add_node(engine, "slow", slow.port, tenant="limited", perMinute=100)
    add_node(engine, "fast", fast.port, tenant="free")
    fleet.execute(
        """WITH made AS (
               SELECT n, nextval(pg_get_serial_sequence('jobs', 'id')) AS id FROM generate_series(1, 10000) n
           ), mails AS (INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, content)
               SELECT id, 'limited', 'campaign', 'slow', n || '@example.org', '<' || n || '@slow.example>',
                      '{"subject": "Hi", "text": "Hello", "vars": {}}' FROM made)
           INSERT INTO jobs (id, type, queue, tenant, route)
           SELECT id, 'email.send', 'campaign-standard', 'limited', 'slow' FROM made"""
    )
    fleet.relay()
    fleet.worker(QUEUES, threads=8)
    fleet.until(lambda: len(slow.accepted) >= 3, "the limited node has begun")
    mail(engine, 500, node="fast", tenant="free")
    fleet.until(lambda: len(fast.accepted) == 500, "the free tenant's mail delivered", seconds=40)
    fleet.until(lambda: len(slow.accepted) >= 40, "the limited node goes on at its pace", seconds=60)
    times = sorted(mail.at for mail in slow.accepted)
    assert all(sum(1 for t in times if start <= t < start + 60) <= 100 for start in times)
    (row,) = fleet.rows(
        "SELECT sum(publication) AS offers, count(*) FILTER (WHERE state = 'completed') AS sent FROM jobs"
        " WHERE tenant = 'limited'"
    )
    assert row.offers / row.sent < 2
    slow.stop()
    fast.stop()


def test_a_flush_in_the_middle_of_a_campaign_loses_and_doubles_nothing(
    fleet: Fleet, engine: Engine, redis_client: redis.Redis
) -> None:
    lab = Lab()
    add_node(engine, "n1", lab.port)
    fleet.relay()
    fleet.worker(QUEUES, threads=8)
    mail(engine, 600)
    for goal in (100, 300):
        fleet.until(lambda goal=goal: len(lab.accepted) > goal, f"{goal} delivered")
        redis_client.flushall()
    assert final(fleet) == {"sent": 600}
    assert len(lab.accepted) == 600
    assert set(copies(lab).values()) == {1}
    lab.stop()


def test_workers_killed_at_random_lose_and_double_nothing(fleet: Fleet, engine: Engine) -> None:
    lab = Lab()
    add_node(engine, "n1", lab.port)
    fleet.relay()
    at_once = {"POSTFLEET_SMTP_SESSIONS_PER_THREAD": "4"}
    workers = [fleet.worker(QUEUES, threads=2, env=at_once) for _ in range(2)]
    mail(engine, 800)
    for goal in (100, 250, 400):
        fleet.until(lambda goal=goal: len(lab.accepted) > goal, f"{goal} delivered")
        workers.pop(0).kill()
        workers.append(fleet.worker(QUEUES, threads=2, env=at_once))
    ended = final(fleet)
    unknown = ended.get("unknown", 0)
    assert ended.get("sent", 0) + unknown == 800
    assert unknown <= 3 * 2 * 4, "at most one unknown per session and kill"
    assert set(copies(lab).values()) == {1}
    assert len(copies(lab)) >= 800 - unknown
    lab.stop()
