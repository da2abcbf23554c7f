"""`email.send` where a worker dies, its claim is taken from it, or Redis loses its data: what comes of it."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text

from mail_bench import Bench
from mail_lab import Lab
from postfleet_workers import epoch
from postfleet_workers.jobs import Done, HandBack, Snooze
from postfleet_workers.outcomes import Rescued
from smtp_lab import FaultyLab
from smtp_lab import Phase as At


def test_once_a_dot_is_forbidden_the_rest_of_the_bundle_is_handed_back_untried(bench: Bench, faulty: FaultyLab) -> None:
    bench.node(faulty.port)
    bench.enqueue(*(f"u{number}@b.example" for number in range(5)))
    jobs, run = bench.claim()
    run.before_dot = lambda job: bench.journal.revoke(run.claim, bench.epoch)
    assert bench.perform(jobs, run) == [HandBack("the claim is no longer ours")] * 5
    assert (len(faulty.accepted), faulty.connections) == (0, 1)


def test_what_a_dead_worker_s_mail_was_put_off_with_waits_no_longer_for_having_been_held(bench: Bench) -> None:
    bench.node(1)
    bench.enqueue("a@b.example")
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET snoozes = 12"))
    jobs, run = bench.claim()
    run.reply(jobs[0], "rcpt 450 4.2.0 greylisted")
    run.tell()
    (recovered,) = bench.rescue(jobs, run)
    assert isinstance(recovered, Snooze)
    assert recovered.seconds == 300


@pytest.mark.parametrize(("at", "status"), [(At.MAIL, None), (At.RCPT, None), (At.DATA, None), (At.DOT, "unknown")])
def test_a_worker_that_dies_at_a_phase_leaves_what_its_journal_says(
    bench: Bench, faulty: FaultyLab, at: At, status: str | None
) -> None:
    """The worker is a thread that is stuck at the phase while the relay rescues its claim; then it goes on, fenced."""
    bench.node(faulty.port)
    bench.enqueue("a@b.example")
    jobs, run = bench.claim()
    release = threading.Event()
    stuck = faulty.fail(at, release=release)
    found: list[Any] = []
    worker = threading.Thread(target=lambda: found.extend(bench.perform(jobs, run)))
    worker.start()
    assert stuck.reached.wait(10)
    (recovered,) = bench.rescue(jobs, run)
    release.set()
    worker.join(10)
    (settled,) = bench.settle(jobs, found)
    assert not settled.accepted
    if status:
        assert isinstance(recovered, Done)
        assert bench.statuses() == [status]
        assert len(faulty.accepted) == 1
        assert [(a["outcome"], a["fenced"]) for a in bench.attempts()] == [("unknown", False), ("sent", True)]
    else:
        assert isinstance(recovered, Rescued)
        assert isinstance(found[0], HandBack)
        assert faulty.accepted == []
        bench.run()
        assert bench.statuses() == ["sent"]
        assert len(faulty.accepted) == 1


def test_a_worker_that_dies_after_the_reply_has_sent_the_mail(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    lab.rcpt = {"gone@b.example": "550 5.1.1 no such user"}
    bench.enqueue("a@b.example", "gone@b.example")
    jobs, run = bench.claim()
    bench.perform(jobs, run)  # and dies before it can settle
    bench.rescue(jobs, run)
    assert bench.statuses() == ["sent", "bounced"]
    assert len(lab.accepted) == 1


def test_a_flush_makes_what_was_claimed_and_not_reported_unknown(
    bench: Bench, lab: Lab, redis_client: redis.Redis
) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    jobs, run = bench.claim()
    redis_client.flushall()
    epoch.keep(redis_client, live_workers=True)
    bench.rescue(jobs, run)
    assert bench.statuses() == ["unknown"]
    assert lab.accepted == []


def test_after_a_flush_no_dot_goes_out_for_an_old_claim(bench: Bench, lab: Lab, redis_client: redis.Redis) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    jobs, run = bench.claim()
    run.before_dot = lambda job: redis_client.flushall()
    (outcome,) = bench.perform(jobs, run)
    assert isinstance(outcome, HandBack)
    assert lab.accepted == []


def test_without_redis_mail_waits(bench: Bench, lab: Lab, engine: Engine) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone = redis.Redis(host="127.0.0.1", port=port)
    bench.node(lab.port)
    bench.enqueue("a@b.example", "c@b.example")
    jobs, run = bench.claim()
    bench.leases = bench.sessions._leasing._leases = type(bench.leases)(gone, 30.0)
    found = bench.perform(jobs, run)
    assert [type(o) for o in found] == [Snooze, Snooze]
    assert [o.seconds for o in found if isinstance(o, Snooze)] == [5, 5]
    assert lab.accepted == []
