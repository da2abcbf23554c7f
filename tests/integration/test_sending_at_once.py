"""`email.send`, several mails of a bundle at once: their sessions, permits and dots, and what becomes of each."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from mail_bench import Bench
from mail_lab import Lab
from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Snooze, Transient
from postfleet_workers.mail.holdings import Holdings
from postfleet_workers.mail.message.press import Press
from postfleet_workers.mail.obstacles import Obstacles
from postfleet_workers.mail.replies.reply import parse
from postfleet_workers.mail.smtp.exchange import OWN_SERVER
from smtp_lab import FaultyLab
from smtp_lab import Phase as At

AT_ONCE = 4
WAIT_SECONDS = 30


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis) -> Iterator[Bench]:
    with closing(Bench(engine, redis_client, at_once=AT_ONCE)) as bench:
        yield bench


def names(count: int) -> list[str]:
    return [f"u{number}@b.example" for number in range(count)]


def kinds(found: list[Outcome]) -> list[type]:
    return [type(outcome) for outcome in found]


def test_mails_go_over_so_many_sessions_and_the_next_over_these_again(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    ids = bench.enqueue(*names(10))
    assert kinds(bench.run()) == [Done] * 10
    assert bench.statuses() == ["sent"] * 10
    assert sorted(mail.email_id for mail in lab.accepted) == sorted(ids)
    assert [attempt["email_id"] for attempt in bench.attempts()] == ids
    assert lab.connections == AT_ONCE


@pytest.mark.parametrize(("most", "taken"), [(1, 1), (3, 1), (6, 3)])
def test_where_few_sessions_are_allowed_a_thread_takes_half_of_them(
    bench: Bench, lab: Lab, most: int, taken: int
) -> None:
    """Others are to find one, be it for urgent mail: their first comes before our second."""
    bench.node(lab.port, maxConnections=most)
    bench.enqueue(*names(9))
    assert kinds(bench.run()) == [Done] * 9
    assert (len(lab.accepted), lab.connections) == (9, taken)


def test_who_waits_for_a_first_session_gets_one_of_a_bundle_that_has_several(bench: Bench, faulty: FaultyLab) -> None:
    """All places are taken by one bundle; its thread gives all but one up as soon as another waits."""
    bench.node(faulty.port, maxConnections=2 * AT_ONCE)
    bench.enqueue(*names(3 * AT_ONCE))
    jobs, run = bench.claim()
    begin, got = run.begin, threading.Event()

    def wait_for_one() -> None:
        node = bench.node_spec()
        for _ in range(AT_ONCE):  # the places that no second session may take
            assert bench.sessions.take(node, 0.0)
        assert bench.sessions.take(node, WAIT_SECONDS)
        got.set()

    other = threading.Thread(target=wait_for_one)

    def begin_while_another_waits(lot: Sequence[Job]) -> None:
        if lot[0] is jobs[AT_ONCE]:
            other.start()
            while not bench.sessions.awaited(bench.node_spec()):
                pass
        elif lot[0] is jobs[2 * AT_ONCE]:
            assert got.wait(WAIT_SECONDS)
        begin(lot)

    run.begin = begin_while_another_waits  # type: ignore[method-assign]
    assert kinds(bench.perform(jobs, run)) == [Done] * 3 * AT_ONCE
    other.join()


def test_sessions_that_end_after_their_share_are_replaced(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, messagesPerConnection=2)
    bench.enqueue(*names(12))
    assert kinds(bench.run()) == [Done] * 12
    assert (len(lab.accepted), lab.connections) == (12, 8)


def test_each_mail_has_its_own_fate(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    lab.rcpt = {"u0@b.example": "550 5.1.1 no such user", "u2@b.example": "450 4.2.0 greylisted"}
    lab.data = {"u3@b.example": "554 5.7.1 looks like spam", "u4@b.example": "452 4.3.1 disk full"}
    bench.enqueue(*names(6))
    assert kinds(bench.run()) == [Done, Done, Snooze, Done, Snooze, Done]
    assert bench.statuses() == ["bounced", "sent", "deferred", "bounced", "deferred", "sent"]
    assert {mail.recipient for mail in lab.accepted} == {"u1@b.example", "u5@b.example"}


def test_a_mail_that_cannot_be_made_leaves_its_neighbours_alone(
    bench: Bench, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistake in the code that makes mails is blamed on the mail that meets it."""
    make = Press.make

    def stumble(press: Press, parcel: Any, *others: Any) -> Any:
        if parcel.row.recipient == "u1@b.example":
            raise ZeroDivisionError("of all mails, this one")
        return make(press, parcel, *others)

    monkeypatch.setattr(Press, "make", stumble)
    bench.node(lab.port)
    bench.enqueue(*names(5))
    found = bench.run()
    assert kinds(found) == [Done, Transient, Done, Done, Done]
    assert str(found[1]).count("ZeroDivisionError: of all mails, this one") == 1
    assert bench.statuses() == ["sent", "deferred", "sent", "sent", "sent"]


def test_a_mistake_after_the_dot_makes_the_mail_unknown_not_sent_again(
    bench: Bench, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    mistakes = iter([True])

    def stumble(code: int, words: bytes) -> Any:
        if code == 250 and next(mistakes, False):
            raise ZeroDivisionError("of all replies, this one")
        return parse(code, words)

    monkeypatch.setattr("postfleet_workers.mail.smtp.session.parse", stumble)
    bench.node(lab.port)
    bench.enqueue(*names(5))
    assert kinds(bench.run()) == [Done] * 5
    assert sorted(bench.statuses()) == ["sent"] * 4 + ["unknown"]
    assert len(lab.accepted) == 5


def test_a_lost_reply_makes_one_mail_unknown(bench: Bench, faulty: FaultyLab) -> None:
    bench.node(faulty.port)
    bench.enqueue(*names(8))
    faulty.fail(At.DOT, drop=True)
    bench.run()
    assert sorted(bench.statuses()) == ["sent"] * 7 + ["unknown"]


@pytest.mark.parametrize("fault", [{"drop": True}, {"reply": "421 4.4.2 idle for too long", "drop": True}])
def test_sessions_that_turn_out_to_have_ended_delay_nothing(
    bench: Bench, faulty: FaultyLab, fault: dict[str, Any]
) -> None:
    bench.node(faulty.port)
    bench.enqueue(*names(AT_ONCE))
    bench.run()
    assert faulty.connections == AT_ONCE
    bench.enqueue(*names(AT_ONCE))
    for _ in range(2):
        faulty.fail(At.MAIL, **fault)
    assert kinds(bench.run()) == [Done] * AT_ONCE
    assert bench.statuses() == ["sent"] * 2 * AT_ONCE
    assert len(bench.attempts()) == 2 * AT_ONCE


def test_a_server_that_takes_no_further_session_is_sent_all_over_the_first_and_not_asked_again(
    bench: Bench, faulty: FaultyLab
) -> None:
    bench.node(faulty.port)
    bench.enqueue("first@b.example")
    bench.run()
    for _ in range(10):
        faulty.fail(At.BANNER, reply="421 4.7.0 too many connections", drop=True)
    bench.enqueue(*names(2 * AT_ONCE))
    assert kinds(bench.run()) == [Done] * 2 * AT_ONCE
    assert faulty.connections == 2, "the first, and one that was turned away"


def test_sessions_that_have_ended_without_a_word_are_not_tried_one_after_the_other(
    bench: Bench, faulty: FaultyLab
) -> None:
    bench.node(faulty.port)
    bench.enqueue(*names(AT_ONCE + 2))
    jobs, run = bench.claim()
    begin = run.begin

    def begin_after_a_hang_up(lot: Sequence[Job]) -> None:
        if lot[0] is jobs[AT_ONCE]:
            faulty.hang_up()
        begin(lot)

    run.begin = begin_after_a_hang_up  # type: ignore[method-assign]
    assert kinds(bench.perform(jobs, run)) == [Done] * (AT_ONCE + 2)
    assert len(faulty.accepted) == AT_ONCE + 2


def test_a_limit_lets_out_what_it_permits_and_the_rest_waits(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, perDay=100)  # a burst of 3
    bench.enqueue(*names(6))
    found = bench.run()
    sent = kinds(found).count(Done)
    assert 1 <= sent <= 3
    assert found[sent:] == [HandBack("held by node acme-1 per_day")] * (6 - sent)
    assert len(lab.accepted) == sent


def test_once_dots_are_forbidden_nothing_goes_out_any_more(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    bench.enqueue(*names(9))
    jobs, run = bench.claim()
    run.before_dot = lambda job: bench.journal.revoke(run.claim, bench.epoch)
    assert bench.perform(jobs, run) == [HandBack("the claim is no longer ours")] * 9
    assert lab.accepted == []


def test_a_worker_that_dies_while_one_server_is_slow_knows_what_became_of_the_others(
    bench: Bench, faulty: FaultyLab
) -> None:
    """The replies of those that are through are in the journal before the long wait for the last one."""
    bench.node(faulty.port)
    bench.enqueue(*names(AT_ONCE))
    release, told = threading.Event(), threading.Event()
    faulty.fail(At.DOT, release=release)
    jobs, run = bench.claim()
    run.on_tell = told.set
    found: list[Outcome] = []
    worker = threading.Thread(target=lambda: found.extend(bench.perform(jobs, run)))
    worker.start()
    assert told.wait(WAIT_SECONDS)
    phases = sorted(bench.journal.revoke(run.claim, bench.epoch).of(job.id).phase for job in jobs)
    release.set()
    worker.join()
    assert phases == ["dot", "reply", "reply", "reply"]
    assert kinds(found) == [Done] * AT_ONCE


def test_mails_that_take_turns_leave_one_in_doubt_when_their_worker_dies(bench: Bench, lab: Lab) -> None:
    """One session, four mails: the replies to the first three are in the journal before the dot of the fourth."""
    bench.node(lab.port, maxConnections=1)
    bench.enqueue(*names(AT_ONCE))
    jobs, run = bench.claim()
    known: list[str] = []

    def look(job: Job) -> None:
        if job.id == jobs[-1].id:
            traces = bench.journal.revoke(run.claim, bench.epoch)
            known.extend(traces.of(each.id).phase for each in jobs)

    run.before_dot = look
    bench.perform(jobs, run)
    assert known == ["reply", "reply", "reply", "begun"]


def test_a_slow_server_keeps_one_session_and_no_other(bench: Bench, faulty: FaultyLab) -> None:
    bench.node(faulty.port)
    bench.enqueue(*names(AT_ONCE))
    release = threading.Event()
    faulty.fail(At.DOT, release=release)
    jobs, run = bench.claim()
    worker = threading.Thread(target=lambda: bench.perform(jobs, run))
    worker.start()
    node = bench.node_spec()
    try:
        held = []
        while len(held) < AT_ONCE - 1:
            held.append(bench.sessions.take(node, WAIT_SECONDS))
            assert held[-1] is not None
            assert faulty.connections <= 2 * AT_ONCE
        for one in held:
            bench.sessions.give_back(one)
        while len(bench.sessions._idle.get((node.name, OWN_SERVER.key), [])) < AT_ONCE - 1:
            assert worker.is_alive()
    finally:
        release.set()
        worker.join()


@pytest.mark.parametrize("where", ["permits", "free"])
def test_what_goes_wrong_around_one_mail_is_its_own_and_loses_no_session(
    bench: Bench, lab: Lab, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    mistakes = iter([True])
    inner = Holdings.permits if where == "permits" else Obstacles.history

    def stumble(*args: Any) -> Any:
        if next(mistakes, False):
            raise ZeroDivisionError("of all mails, this one")
        return inner(*args)

    if where == "permits":
        monkeypatch.setattr(Holdings, "permits", stumble)
    else:
        monkeypatch.setattr(Obstacles, "history", stumble)
    bench.node(lab.port)
    bench.enqueue(*names(AT_ONCE))
    found = bench.run()
    assert kinds(found).count(Done) == (AT_ONCE - 1 if where == "permits" else AT_ONCE)
    assert bench.statuses().count("sent") == AT_ONCE - 1
    assert len(lab.accepted) == (AT_ONCE - 1 if where == "permits" else AT_ONCE)
    assert not bench.sessions._busy


def test_a_big_mail_goes_alone(bench: Bench, lab: Lab) -> None:
    """Writing it takes long over a slow line, and small ones would stand still between DATA and dot."""
    bench.node(lab.port)
    bench.enqueue(*names(2))
    bench.enqueue("big@b.example", text="so much to say\n" * 10_000)
    bench.enqueue("v0@b.example")
    jobs, run = bench.claim()
    run.log = lab.log
    assert kinds(bench.perform(jobs, run)) == [Done] * 4
    kinds_of_step = [step for step, _ in lab.log]
    big = bench.message_id(jobs[2].id)
    place = lab.log.index(("journal dot", big))
    assert lab.log[place : place + 3] == [("journal dot", big), ("dot", big), ("journal reply", big)]
    assert kinds_of_step.count("dot") == 4
