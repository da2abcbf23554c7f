"""`email.send` end to end: real rows, real limits, real SMTP. Which fault becomes which outcome, and in which order it
is written down."""

from __future__ import annotations

import socket
import threading
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import Engine, text

from mail_bench import Bench
from mail_lab import Lab
from postfleet_workers.jobs import Done, Permanent, Snooze
from postfleet_workers.ledger import expired
from postfleet_workers.mail.replies.outcome import Schedule
from postfleet_workers.mail.smtp.session import Timeouts
from smtp_lab import FaultyLab
from smtp_lab import Phase as At


def test_a_bundle_is_delivered_personalised_and_on_record(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    ids = bench.enqueue(*(f"u{i}@b.example" for i in range(50)))
    assert {type(outcome) for outcome in bench.run()} == {Done}
    assert [m.email_id for m in lab.accepted] == ids
    assert lab.connections == 1
    assert "Hi u7@b.example" in lab.accepted[7].data.decode()
    for row, mail in zip(bench.emails(), lab.accepted, strict=True):
        assert row["status"] == "sent"
        assert row["message_id"] == mail.message_id
        assert row["message_id"].endswith("@mail.acme.example>")
        assert row["begun_at"] is not None
        assert row["finished_at"] >= row["begun_at"]
        assert row["reply"] == "250 2.0.0 OK queued"
    attempts = bench.attempts()
    assert [a["email_id"] for a in attempts] == ids
    assert {(a["outcome"], a["phase"], a["code"], a["enhanced"], a["fenced"]) for a in attempts} == {
        ("sent", "dot", 250, "2.0.0", False)
    }
    assert {job["state"] for job in bench.jobs()} == {"completed"}


def test_the_dot_is_journalled_before_it_goes_out_and_its_reply_before_the_next_mail(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example", "c@b.example")
    jobs, run = bench.claim()
    run.log = lab.log
    bench.perform(jobs, run)
    first, second = (row["message_id"] for row in bench.emails())
    assert lab.log == [
        (kind, message_id) for message_id in (first, second) for kind in ("journal dot", "dot", "journal reply")
    ]


def test_each_mail_of_a_bundle_has_its_own_fate(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    lab.rcpt = {"gone@b.example": "550 5.1.1 no such user", "grey@b.example": "450 4.2.0 greylisted"}
    lab.data = {"spam@b.example": "554 5.7.1 looks like spam", "busy@b.example": "452 4.3.1 disk full"}
    bench.enqueue(
        "gone@b.example", "ok@b.example", "grey@b.example", "spam@b.example", "busy@b.example", "ok2@b.example"
    )
    found = bench.run()
    assert [type(o) for o in found] == [Done, Done, Snooze, Done, Snooze, Done]
    assert bench.statuses() == ["bounced", "sent", "deferred", "bounced", "deferred", "sent"]
    assert [a["scope"] for a in bench.attempts()] == ["recipient", None, "recipient", "message", "destination", None]
    assert [m.recipient for m in lab.accepted] == ["ok@b.example", "ok2@b.example"]
    assert lab.connections == 1


def test_a_deferred_mail_waits_longer_each_time_on_the_retry_queue_and_uses_no_attempt(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    lab.rcpt = {"grey@b.example": "451 4.7.1 greylisted"}
    bench.enqueue("grey@b.example")
    waits = [
        outcome.seconds
        for outcome in [*bench.run(), *bench.run_again(), *bench.run_again()]
        if isinstance(outcome, Snooze)
    ]
    assert waits == [300, 600, 1200]
    (job,) = bench.jobs()
    assert (job["queue"], job["attempt"], job["state"]) == ("retry", 0, "scheduled")
    begun = bench.emails()[0]["begun_at"]
    lab.rcpt.clear()
    bench.run_again()
    (email,) = bench.emails()
    assert (email["status"], email["deferrals"], email["begun_at"]) == ("sent", 3, begun)
    assert [a["outcome"] for a in bench.attempts()] == ["deferred"] * 3 + ["sent"]
    assert len({m.message_id for m in lab.accepted}) == 1


def test_a_mail_deferred_for_too_long_bounces(engine: Engine, redis_client: redis.Redis, lab: Lab) -> None:
    with closing(Bench(engine, redis_client, schedule=Schedule(300, 3600))) as bench:
        bench.node(lab.port)
        lab.rcpt = {"full@b.example": "452 4.2.2 over quota"}
        bench.enqueue("full@b.example")
        bench.run()
        with engine.begin() as connection:
            connection.execute(text("UPDATE emails SET begun_at = begun_at - interval '2 hours'"))
        bench.run_again()
        (email,) = bench.emails()
        assert email["status"] == "bounced"
        assert email["reply"].startswith("given up after 1 deferrals: 452 4.2.2 over quota")


SAFE = [At.CONNECT, At.BANNER, At.EHLO, At.MAIL, At.RCPT, At.DATA]


@pytest.mark.parametrize("at", SAFE)
def test_a_connection_lost_before_the_dot_defers_and_the_mail_arrives_once(
    bench: Bench, faulty: FaultyLab, at: At
) -> None:
    bench.node(faulty.port)
    bench.enqueue("a@b.example")
    faulty.fail(at, drop=True)
    (outcome,) = bench.run()
    assert isinstance(outcome, Snooze)
    assert bench.statuses() == ["deferred"]
    bench.run_again()
    assert bench.statuses() == ["sent"]
    assert len(faulty.accepted) == 1


def test_a_connection_lost_in_the_body_defers_unless_the_dot_was_on_its_way_already(
    bench: Bench, faulty: FaultyLab
) -> None:
    # A body fits into the sockets' buffers, so the client may be past its dot before it hears of the loss.
    bench.node(faulty.port)
    bench.enqueue("a@b.example", text=("y" * 900 + "\n") * 500)
    fault = faulty.fail(At.BODY, drop=True)
    jobs, run = bench.claim()
    bench.settle(jobs, bench.perform(jobs, run))
    assert fault.reached.is_set()
    dotted = any(what == "journal dot" for what, _ in run.log)
    assert bench.statuses() == ["unknown" if dotted else "deferred"]
    assert faulty.accepted == []


@pytest.mark.parametrize("stall", [False, True], ids=["dropped", "silent"])
def test_without_a_reply_to_the_dot_the_mail_is_unknown_and_is_not_sent_again(
    engine: Engine, redis_client: redis.Redis, faulty: FaultyLab, stall: bool
) -> None:
    with closing(Bench(engine, redis_client, timeouts=Timeouts(connect=5, reply=5, dot=0.3))) as bench:
        bench.node(faulty.port)
        bench.enqueue("a@b.example", "c@b.example")
        release = threading.Event()
        faulty.fail(At.DOT, drop=True, release=release if stall else None)
        found = bench.run()
        release.set()
        assert [type(o) for o in found] == [Done, Done]
        assert bench.statuses() == ["unknown", "sent"]
        assert [job["state"] for job in bench.jobs()] == ["completed", "completed"]
        assert bench.run_again() == []


@pytest.mark.parametrize("how", ["dropped", "421"])
def test_a_session_that_the_server_ends_between_mails_delays_nothing(bench: Bench, faulty: FaultyLab, how: str) -> None:
    bench.node(faulty.port)
    bench.enqueue("a@b.example", "c@b.example", "d@b.example")
    if how == "dropped":
        faulty.fail(At.REPLIED, drop=True)
        bench.run()
    else:
        jobs, run = bench.claim()
        run.before_dot = lambda job: job.id == jobs[0].id and faulty.fail(At.MAIL, reply="421 4.7.0 enough", drop=True)
        bench.settle(jobs, bench.perform(jobs, run))
    assert bench.statuses() == ["sent"] * 3
    assert (len(faulty.accepted), faulty.connections) == (3, 2)


def test_a_refused_connection_defers_one_mail_and_keeps_the_rest_waiting(bench: Bench) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    bench.node(port)
    bench.enqueue(*(f"u{i}@b.example" for i in range(5)))
    found = bench.run()
    assert [type(o) for o in found] == [Snooze] * 5
    assert [o.seconds for o in found if isinstance(o, Snooze)] == [300, 30, 30, 30, 30]
    assert bench.statuses() == ["deferred", *["queued"] * 4]
    assert "Connection refused" in bench.emails()[0]["reply"]
    assert len(bench.attempts()) == 1


def test_a_source_that_is_refused_waits_until_that_is_mended_and_is_never_a_bounce(
    bench: Bench, lab: Lab, engine: Engine
) -> None:
    bench.node(lab.port)
    lab.data = dict.fromkeys(("a@b.example", "c@b.example"), "550 5.7.515 Access denied, sending domain has no SPF")
    bench.enqueue(*lab.data)
    for wait in (300, 600, 1200, 2400):
        assert [o.seconds for o in bench.run_again() if isinstance(o, Snooze)] == [wait, wait]
    assert bench.statuses() == ["deferred", "deferred"]
    assert {(j["state"], j["attempt"], j["queue"]) for j in bench.jobs()} == {("scheduled", 0, "retry")}
    assert {(a["outcome"], a["scope"]) for a in bench.attempts()} == {("deferred", "source")}
    del lab.data["c@b.example"]
    with engine.begin() as connection:
        connection.execute(text("UPDATE emails SET begun_at = begun_at - interval '6 days'"))
    bench.run_again()
    assert bench.statuses() == ["failed", "sent"]
    assert bench.emails()[0]["reply"].startswith("given up after 4 deferrals: 550 5.7.515")
    assert [job["state"] for job in bench.jobs()] == ["discarded", "completed"]
    with engine.begin() as connection:
        assert connection.execute(text("SELECT count(*) FROM suppressions")).scalar_one() == 0


def test_a_mail_that_cannot_be_made_fails_alone(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example", subject="Hi {{ contact.name }}", vars={"name": "x\r\nBcc: evil@b.example"})
    bench.enqueue("c@b.example", text="{{ contact.n | divided_by: 0 }}", vars={"n": 1})
    bench.enqueue("d@b.example")
    found = bench.run()
    assert [type(o) for o in found] == [Permanent, Permanent, Done]
    assert bench.statuses() == ["failed", "failed", "sent"]
    assert [m.recipient for m in lab.accepted] == ["d@b.example"]
    assert "line break" in bench.emails()[0]["reply"]


def test_a_mail_that_was_sent_is_not_sent_when_its_job_runs_again(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    bench.run()
    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'available'"))
    assert bench.run() == [Done()]
    assert (len(lab.accepted), bench.statuses()) == (1, ["sent"])


@pytest.mark.parametrize(("minutes", "status"), [(None, "cancelled"), (-1, "expired"), (60, "cancelled")])
def test_a_cancelled_job_cancels_its_mail_or_expires_it(
    bench: Bench, lab: Lab, engine: Engine, minutes: int | None, status: str
) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    (job,), _ = bench.claim()
    job = replace(job, expires_at=None if minutes is None else datetime.now(UTC) + timedelta(minutes=minutes))
    assert bench.job_type.settle is not None
    with engine.begin() as connection:
        bench.job_type.settle(connection, [expired(job)])
    assert bench.statuses() == [status]
