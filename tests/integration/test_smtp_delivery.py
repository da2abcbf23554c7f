"""`email.send` end to end: real rows, real limits, real SMTP. Which fault becomes which outcome, and in which order it
is written down."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text

from mail_bench import NODE, TENANT, Bench
from postfleet_workers import epoch
from postfleet_workers.jobs import Done, HandBack, Permanent, Snooze
from postfleet_workers.ledger import expired
from postfleet_workers.mail.replies.outcome import Schedule
from postfleet_workers.mail.smtp.session import Timeouts
from postfleet_workers.outcomes import Rescued
from smtp_lab import FaultyLab, Lab, running
from smtp_lab import Phase as At


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis) -> Iterator[Bench]:
    with closing(Bench(engine, redis_client)) as bench:
        yield bench


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running(Lab()) as lab:
        yield lab


@pytest.fixture
def faulty() -> Iterator[FaultyLab]:
    with running(FaultyLab(pipelining=True)) as lab:
        yield lab


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


def test_mail_of_a_node_that_goes_on_after_a_pause_is_not_handed_back_by_what_was_known_before(
    bench: Bench, lab: Lab
) -> None:
    bench.node(lab.port, paused=True)
    bench.enqueue("a@b.example")
    assert bench.run() == [HandBack(f"node {NODE} is paused")]
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE sending_nodes SET paused = false, spec = spec || '{\"paused\": false}'"))
    assert [type(outcome) for outcome in bench.run()] == [Done]


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


def test_a_spent_limit_hands_back_the_rest_and_names_itself(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, perHour=100)  # so slow that no permit comes due while the test runs
    bench.enqueue(*(f"u{i}@b.example" for i in range(10)))
    found = bench.run()
    sent = len(lab.accepted)
    assert sent == 1  # a fresh bucket has no burst
    assert [type(o) for o in found] == [Done] * sent + [HandBack] * (10 - sent)
    assert {o.reason for o in found if isinstance(o, HandBack)} == {f"held by node {NODE} per_hour"}
    assert bench.statuses() == ["sent"] * sent + ["queued"] * (10 - sent)
    assert {(job["state"], job["attempt"]) for job in bench.jobs()[sent:]} == {("available", 0)}


def test_a_tenants_limit_holds_as_well(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tenants SET per_day = 5 WHERE name = :t"), {"t": TENANT})
    bench.enqueue("a@b.example", "c@b.example")
    found = bench.run()
    assert [type(o) for o in found] == [Done, HandBack]


def test_when_every_session_of_the_node_is_taken_the_bundle_goes_back(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, maxConnections=1)
    assert bench.leases.acquire([(NODE, 1)], "another worker's")
    bench.enqueue("a@b.example", "c@b.example")
    found = bench.run()
    assert [type(o) for o in found] == [HandBack, HandBack]
    assert lab.connections == 0
    bench.leases.release([NODE], "another worker's")
    bench.run()
    assert bench.statuses() == ["sent", "sent"]


def test_a_session_is_replaced_after_its_share_of_mails(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, messagesPerConnection=3)
    bench.enqueue(*(f"u{i}@b.example" for i in range(7)))
    bench.run()
    assert (len(lab.accepted), lab.connections, lab.most_open) == (7, 3, 1)


def test_threads_share_the_sessions_of_their_process(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, maxConnections=2)
    bench.enqueue(*(f"u{i}@b.example" for i in range(40)))
    jobs, run = bench.claim()
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda part=part: found.extend(bench.perform(part, run)))
        for part in (jobs[i::4] for i in range(4))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert lab.most_open <= 2
    assert len(lab.accepted) == sum(type(o) is Done for o in found)
    assert all(isinstance(o, Done | HandBack) for o in found)


def test_a_paused_node_hands_back(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    bench.node(lab.port, paused=True)
    assert [type(o) for o in bench.run()] == [HandBack]


def test_the_mail_of_a_node_that_is_gone_goes_back_and_uses_no_attempt(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM sending_nodes"))
    (outcome,) = bench.run()
    assert outcome == Snooze(1.0, f"sending node {NODE} does not exist", kind="node_unknown")
    assert [(job["state"], job["attempt"]) for job in bench.jobs()] == [("scheduled", 0)]
    assert bench.statuses() == ["queued"]


@pytest.mark.parametrize(
    ("placement", "place", "served"),
    [
        pytest.param("Shared", "shared", True, id="shared mail, shared workers"),
        pytest.param("Dedicated", NODE, True, id="its own workers"),
        pytest.param("Dedicated", "shared", False, id="dedicated mail, shared workers"),
        pytest.param("Shared", NODE, False, id="shared mail, once its own workers"),
        pytest.param("Dedicated", "other-1", False, id="workers of another node"),
    ],
)
def test_a_worker_puts_back_what_is_not_its_own(
    engine: Engine, redis_client: redis.Redis, lab: Lab, placement: str, place: str, served: bool
) -> None:
    with closing(Bench(engine, redis_client, place=place)) as bench:
        bench.node(lab.port, placement=placement)
        bench.enqueue("a@b.example", "c@b.example")
        found = bench.run()
        if served:
            assert ([type(o) for o in found], len(lab.accepted)) == ([Done] * 2, 2)
            return
        reason = f"node {NODE} is not served by {place} workers"
        assert found == [Snooze(1.0, reason, kind="misplaced")] * 2
        assert [(j["state"], j["attempt"], j["last_error"]) for j in bench.jobs()] == [("scheduled", 0, reason)] * 2
        assert (bench.statuses(), lab.accepted) == (["queued"] * 2, [])


def test_a_node_that_was_given_to_these_workers_a_moment_ago_is_theirs(
    engine: Engine, redis_client: redis.Redis, lab: Lab
) -> None:
    with closing(Bench(engine, redis_client, place=NODE)) as bench:
        bench.node(lab.port)
        bench.enqueue("a@b.example")
        assert [type(o) for o in bench.run()] == [Snooze]
        with engine.begin() as connection:  # behind the directory's back
            connection.execute(
                text("UPDATE sending_nodes SET spec = jsonb_set(spec, '{workers,placement}', '\"Dedicated\"')")
            )
        assert [type(o) for o in bench.run_again()] == [Done]


def test_a_node_that_was_taken_from_these_workers_and_deleted_is_gone(
    engine: Engine, redis_client: redis.Redis, lab: Lab
) -> None:
    with closing(Bench(engine, redis_client, place="other-1")) as bench:
        bench.node(lab.port)
        bench.enqueue("a@b.example")
        bench.run()
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM sending_nodes"))
        assert [o.kind for o in bench.run_again() if isinstance(o, Snooze)] == ["node_unknown"]


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
