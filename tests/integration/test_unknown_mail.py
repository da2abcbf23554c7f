"""Mail of which nobody knows whether it arrived: sent again, once, if its sender asked for that; else by a person."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import redis
from sqlalchemy import Engine, text

from fleet import Fleet
from integration.mail_steps import QUEUES, add_node, copies, final
from mail_bench import Bench
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import Done
from postfleet_workers.mail import unknown
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from smtp_lab import FaultyLab, Phase, running


@pytest.fixture
def lab() -> Iterator[FaultyLab]:
    with running(FaultyLab()) as lab:
        yield lab


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis, lab: FaultyLab) -> Iterator[Bench]:
    bench = Bench(engine, redis_client)
    bench.node(lab.port)
    yield bench
    bench.close()


def told(bench: Bench) -> list[tuple[str, bool]]:
    return [(row["outcome"], row["fenced"]) for row in bench.attempts()]


def state(bench: Bench) -> tuple[str, int, str]:
    """Email's status, how often it was sent again, its job's state."""
    (email,), (job,) = bench.emails(), bench.jobs()
    return email["status"], email["resends"], job["state"]


def test_it_is_sent_again_at_once_with_the_same_message_id(bench: Bench, lab: FaultyLab) -> None:
    bench.enqueue("ann@b.example", on_unknown="resend")
    lab.fail(Phase.DOT, drop=True)
    bench.run()
    assert state(bench) == ("queued", 1, "available")
    bench.run()
    assert state(bench) == ("sent", 1, "completed")
    assert told(bench) == [("unknown", False), ("sent", False)]
    (email,) = bench.emails()
    first, second = [mid for what, mid in lab.log if what == "dot"]
    assert first == second == lab.accepted[0].message_id == email["message_id"]
    assert email["finished_at"] is not None


def test_a_second_time_it_is_held(bench: Bench, lab: FaultyLab) -> None:
    bench.enqueue("ann@b.example", on_unknown="resend")
    for _ in range(2):
        lab.fail(Phase.DOT, drop=True)
        bench.run()
    assert state(bench) == ("unknown", 1, "completed")
    assert bench.run_again() == []


def test_what_a_dead_worker_left_unknown_is_sent_again_too(bench: Bench, lab: FaultyLab) -> None:
    bench.enqueue("ann@b.example", on_unknown="resend")
    jobs, run = bench.claim()
    assert run.dot(jobs[0])
    bench.rescue(jobs, run)
    assert state(bench) == ("queued", 1, "available")
    bench.run()
    assert state(bench) == ("sent", 1, "completed")


def test_a_frozen_worker_s_late_word_is_kept_and_changes_nothing(bench: Bench) -> None:
    bench.enqueue("ann@b.example", on_unknown="resend")
    jobs, run = bench.claim()
    assert run.dot(jobs[0])
    bench.rescue(jobs, run)
    bench.settle(jobs, [Done(MailRecord("acme-1", "dot", Status.SENT, "250 ok"))])
    assert state(bench) == ("queued", 1, "available")
    assert told(bench) == [("unknown", False), ("sent", True)]


@pytest.mark.parametrize(
    "change",
    [
        pytest.param("SET on_unknown = 'hold'", id="nobody asked for it"),
        pytest.param("SET class = 'campaign'", id="a campaign's"),
        pytest.param("SET class = 'warmup'", id="warmup"),
    ],
)
def test_other_mail_is_held(bench: Bench, lab: FaultyLab, engine: Engine, change: str) -> None:
    bench.enqueue("ann@b.example", on_unknown="resend")
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE emails {change}"))
    lab.fail(Phase.DOT, drop=True)
    bench.run()
    assert state(bench) == ("unknown", 0, "completed")


def test_one_of_a_bundle_is_sent_again_alone(bench: Bench, lab: FaultyLab) -> None:
    bench.enqueue("a@b.example", on_unknown="resend")
    bench.enqueue("b@b.example", "c@b.example")
    lab.fail(Phase.DOT, drop=True)
    bench.run()
    assert bench.statuses() == ["queued", "sent", "sent"]
    bench.run()
    assert bench.statuses() == ["sent"] * 3
    assert sorted(mail.recipient for mail in lab.accepted) == ["a@b.example", "b@b.example", "c@b.example"]


def test_what_is_sent_again_days_later_is_not_given_up_at_its_first_deferral(bench: Bench, lab: FaultyLab) -> None:
    (email_id,) = bench.enqueue("ann@b.example")
    lab.fail(Phase.DOT, drop=True)
    bench.run()
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE emails SET begun_at = begun_at - interval '6 days'"))
        unknown.resolve(connection, [email_id], unknown.Resolution.RESEND)
    lab.fail(Phase.RCPT, reply="450 4.2.0 greylisted")
    bench.run()
    assert state(bench) == ("deferred", 1, "scheduled")


def test_a_policy_that_does_not_exist_is_refused(bench: Bench) -> None:
    with pytest.raises(InputError, match="on_unknown: 'drop' is not one of hold, resend"):
        bench.enqueue("ann@b.example", on_unknown="drop")


@pytest.mark.faults
def test_a_killed_worker_s_mail_is_sent_again_by_the_fleet(fleet: Fleet, engine: Engine, lab: FaultyLab) -> None:
    """The receiver has the first copy, which nobody could know; the second has its Message-ID."""
    add_node(engine, "n1", lab.port)
    release = threading.Event()
    fault = lab.fail(Phase.DOT, release=release)
    fleet.relay()
    victim = fleet.worker(QUEUES, threads=2)
    with engine.begin() as connection:
        send_email(connection, NewEmail("acme", "ann@b.example", "n1", "Code", "314159", on_unknown="resend"))
    assert fault.reached.wait(20)
    victim.kill()
    release.set()
    fleet.worker(QUEUES, threads=2)
    assert final(fleet) == {"sent": 1}
    assert list(copies(lab).values()) == [2]
