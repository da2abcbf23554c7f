"""The journal of a claim: whatever a worker and its rescuer do at once, no mail can go out twice."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_local.stack import Valkey
from postfleet_workers import epoch
from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.jobs import Trace
from postfleet_workers.journal import Journal, Traces
from postfleet_workers.pipe import connect
from worlds import AnyWorld, MemoryWorld, RedisWorld

DAY_MS = 86_400_000


@pytest.fixture(params=["redis", "memory"])
def world(request: pytest.FixtureRequest) -> AnyWorld:
    return RedisWorld(request.getfixturevalue("redis_client")) if request.param == "redis" else MemoryWorld()


@pytest.fixture
def now(world: AnyWorld) -> str:
    """The live epoch."""
    found = world.current()
    assert found
    return found


@pytest.fixture
def server(tmp_path) -> Iterator[Valkey]:
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def client(server: Valkey) -> Iterator[redis.Redis]:
    client = connect(server.url())
    yield client
    client.close()


def test_a_claim_is_opened_once(world, now):
    assert world.journal.open("c1", "worker-a", now)
    assert not world.journal.open("c1", "worker-a", now)
    assert world.journal.open("c2", "worker-a", now)


def test_a_claim_of_another_epoch_cannot_be_opened(world, now):
    assert not world.journal.open("c1", "worker-a", "another:epoch")
    world.flush()
    assert not world.journal.open("c1", "worker-a", now)
    world.keep(live_workers=True)
    assert not world.journal.open("c1", "worker-a", now)


def test_a_rescuer_reads_how_far_each_job_got(world, now):
    journal = world.journal
    journal.open("c1", "worker-a", now)
    for job_id in (1, 2, 3):
        journal.advance("c1", {}, {job_id: 1_800_000_000.25})
    for job_id in (1, 2):
        assert journal.dot("c1", job_id)
    journal.advance("c1", {1: "250 2.0.0 ok: queued as 1:2"}, {})
    traces = journal.revoke("c1", now)
    assert traces.complete
    assert traces.of(1) == Trace("reply", "250 2.0.0 ok: queued as 1:2")
    assert traces.of(2) == Trace("dot")
    assert traces.of(3) == Trace("begun", "1800000000.250000")
    assert traces.of(4) == Trace("")


def test_replies_and_the_next_beginnings_share_a_message(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.advance("c1", {}, {1: 1.0, 2: 1.5})
    world.journal.dot("c1", 1)
    world.journal.advance("c1", {1: "250 ok", 2: "450 no"}, {3: 2.0})
    world.journal.advance("c1", {}, {})
    traces = world.journal.revoke("c1", now)
    assert [traces.of(job_id) for job_id in (1, 2)] == [Trace("reply", "250 ok"), Trace("reply", "450 no")]
    assert traces.of(3) == Trace("begun", "2.000000")


def test_dots_go_out_together_or_not_at_all(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.advance("c1", {}, {1: 1.0, 2: 1.0, 3: 1.0})
    assert world.journal.dot("c1", 1, 2)
    traces = world.journal.revoke("c1", now)
    assert [traces.of(job_id).phase for job_id in (1, 2, 3)] == ["dot", "dot", "begun"]
    assert not world.journal.dot("c1", 2, 3)
    assert world.journal.revoke("c1", now).of(3).phase == "begun"


def test_a_begin_hides_nothing_that_is_known_already(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.dot("c1", 1)
    world.journal.advance("c1", {}, {1: 1.0})
    assert world.journal.revoke("c1", now).of(1).phase == "dot"


def test_after_revoke_no_dot_goes_out_and_nothing_is_noted(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.advance("c1", {}, {1: 1.0})
    before = world.journal.revoke("c1", now)
    assert not world.journal.dot("c1", 1)
    world.journal.advance("c1", {1: "250 ok"}, {})
    world.journal.advance("c1", {}, {2: 2.0})
    world.journal.close("c1")
    assert world.journal.revoke("c1", now) == before
    assert not world.journal.open("c1", "worker-a", now)


def test_a_worker_stopped_between_its_claim_and_open_can_never_open_it(world, now):
    traces = world.journal.revoke("c1", now)
    assert traces == Traces(complete=True)
    assert traces.of(1) == Trace("", complete=True)
    assert not world.journal.open("c1", "worker-a", now)
    assert not world.journal.dot("c1", 1)
    assert world.journal.revoke("c1", now) == traces


@pytest.mark.parametrize("fault", ["flush", "restart"])
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed by a relay", "not noticed yet"])
def test_in_another_epoch_no_dot_goes_out_and_no_entry_proves_nothing(world, now, fault, noticed):
    world.journal.open("c1", "worker-a", now)
    world.journal.advance("c1", {}, {1: 1.0})
    getattr(world, fault)()
    if noticed:
        world.keep(live_workers=True)
    assert not world.journal.dot("c1", 1)
    traces = world.journal.revoke("c1", now)
    assert not traces.complete
    assert not traces.of(1).complete
    assert traces.of(2) == Trace("", complete=False)


def test_what_a_restart_kept_is_still_told(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.dot("c1", 1)
    world.journal.advance("c1", {1: "250 ok"}, {})
    world.journal.dot("c1", 2)
    world.restart()
    world.keep(live_workers=True)
    traces = world.journal.revoke("c1", now)
    assert (traces.of(1).phase, traces.of(1).detail, traces.of(2).phase) == ("reply", "250 ok", "dot")


def test_a_claim_never_opened_in_an_epoch_that_is_gone_proves_nothing(world, now):
    world.flush()
    world.keep(live_workers=True)
    assert not world.journal.revoke("c1", now).complete


def test_a_journal_that_lost_its_key_proves_nothing(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.dot("c1", 1)
    world.lose_journal("c1")
    assert not world.journal.dot("c1", 2)
    world.journal.advance("c1", {}, {3: 1.0})
    traces = world.journal.revoke("c1", now)
    assert not traces.complete
    assert traces.of(1) == traces.of(3) == Trace("", complete=False)


def test_a_claim_revoked_under_another_epoch_than_it_was_opened_in_proves_nothing(world, now):
    world.journal.open("c1", "worker-a", now)
    assert not world.journal.revoke("c1", "another:epoch").complete


def test_what_was_known_to_be_complete_stays_so(world, now):
    world.journal.open("c1", "worker-a", now)
    before = world.journal.revoke("c1", now)
    world.restart()
    world.keep(live_workers=True)
    assert world.journal.revoke("c1", now) == before


def test_a_closed_claim_is_over_but_can_still_be_read(world, now):
    world.journal.open("c1", "worker-a", now)
    world.journal.dot("c1", 1)
    world.journal.close("c1")
    assert not world.journal.dot("c1", 2)
    assert not world.journal.open("c1", "worker-a", now)
    assert world.journal.revoke("c1", now).of(1) == Trace("dot")
    world.journal.close("never opened")


@pytest.mark.parametrize("detail", ["", "250 grüße ✓", "421-4.7.28 first\r\n421 4.7.28 second", "reply:dot", "1"])
def test_any_reply_comes_back_as_it_was(world, now, detail):
    world.journal.open("c1", "worker-a", now)
    world.journal.advance("c1", {1: detail}, {})
    assert world.journal.revoke("c1", now).of(1) == Trace("reply", detail)


def test_a_dot_and_a_revoke_at_once_never_both_win(world, now):
    """Threads race for many claims: a dot that was let out is always seen by the revoke that came after it."""
    dots, rescuers, rounds = 6, 2, 60
    barrier = threading.Barrier(dots + rescuers)

    def send(job_id: int) -> list[bool]:
        results = []
        for round_ in range(rounds):
            barrier.wait(20)
            results.append(world.journal.dot(f"c{round_}", job_id))
        return results

    def rescue(_: int) -> list[Traces]:
        results = []
        for round_ in range(rounds):
            barrier.wait(20)
            results.append(world.journal.revoke(f"c{round_}", now))
        return results

    for round_ in range(rounds):
        world.journal.open(f"c{round_}", "worker-a", now)
    with ThreadPoolExecutor(dots + rescuers) as threads:
        sending = [threads.submit(send, job_id) for job_id in range(dots)]
        rescuing = [threads.submit(rescue, n) for n in range(rescuers)]
        sent = [future.result() for future in sending]
        seen, seen_too = (future.result() for future in rescuing)
    assert seen == seen_too
    for round_ in range(rounds):
        for job_id in range(dots):
            assert sent[job_id][round_] == (seen[round_].of(job_id).phase == "dot")


def test_an_open_and_a_revoke_at_once_never_leave_the_claim_open(world, now):
    def race(claim: str) -> None:
        with ThreadPoolExecutor(2) as pair:
            opened = pair.submit(world.journal.open, claim, "worker-a", now)
            pair.submit(world.journal.revoke, claim, now).result()
            opened.result()
        assert not world.journal.dot(claim, 1)

    for number in range(40):
        race(f"c{number}")


ACTS = ["open", "begin", "dot", "reply", "advance", "revoke", "revoke", "close", "flush", "restart", "keep", "lose"]
STEPS = st.lists(st.tuples(st.sampled_from(ACTS), st.sampled_from(["c1", "c2"]), st.integers(1, 3)), max_size=40)


@settings(max_examples=80, deadline=None)
@given(steps=STEPS)
def test_redis_and_its_twin_agree_on_any_sequence(valkey, steps):
    client = connect(valkey.url())
    worlds: list[AnyWorld] = [RedisWorld(client), MemoryWorld()]
    first = [world.current() for world in worlds]
    for act, claim, job_id in steps:
        answers = []
        for world, began in zip(worlds, first, strict=True):
            journal = world.journal
            match act:
                case "open":
                    answers.append(journal.open(claim, "worker-a", world.current() or began))
                case "begin":
                    answers.append(journal.advance(claim, {}, {job_id: 1.5}))
                case "dot":
                    answers.append(journal.dot(claim, job_id))
                case "reply":
                    answers.append(journal.advance(claim, {job_id: "250 ok"}, {}))
                case "advance":
                    answers.append(journal.advance(claim, {job_id: "250 ok"}, {job_id + 1: 2.5}))
                case "revoke":
                    answers.append(journal.revoke(claim, world.current() or began))
                case "close":
                    answers.append(journal.close(claim))
                case "keep":
                    answers.append(world.keep(live_workers=True)[1])
                case "lose":
                    answers.append(world.lose_journal(claim))
                case "restart" if world.current():
                    answers.append(world.restart())
                case "restart":
                    answers.append(None)
                case _:
                    answers.append(world.flush())
        assert answers[0] == answers[1]
    client.close()


def test_keys_do_not_live_for_ever(redis_client):
    world = RedisWorld(redis_client)
    now = world.current()
    world.journal.open("open", "worker-a", now)
    world.journal.open("closed", "worker-a", now)
    world.journal.close("closed")
    world.journal.open("revoked", "worker-a", now)
    world.journal.revoke("revoked", now)
    world.journal.close("revoked")
    world.journal.revoke("never opened", now)
    lives = {
        name: redis_client.pttl(f"postfleet:journal:{name}") for name in ("open", "closed", "revoked", "never opened")
    }
    assert lives["open"] == pytest.approx(7 * DAY_MS, abs=60_000)
    assert lives["closed"] == pytest.approx(5 * 60_000, abs=10_000)
    assert lives["revoked"] == pytest.approx(2 * DAY_MS, abs=60_000)
    assert lives["never opened"] == pytest.approx(2 * DAY_MS, abs=60_000)
    assert redis_client.zrange("postfleet:journals", 0, -1) == ["open"]
    redis_client.zadd("postfleet:journals", {"older than a week": 1})
    world.journal.open("another", "worker-a", now)
    assert redis_client.zrange("postfleet:journals", 0, -1) == ["open", "another"]


@pytest.mark.faults
def test_a_kill_of_redis_ends_the_claims_of_its_epoch_and_keeps_what_reached_the_file(server, client):
    now, _ = epoch.keep(client, live_workers=True)
    journal = Journal(client)
    journal.open("c1", "worker-a", now)
    journal.dot("c1", 1)
    client.waitaof(1, 0, 5000)
    server.kill()
    with pytest.raises(PipeUnavailable):
        journal.dot("c1", 2)
    server.start()
    assert not journal.dot("c1", 2)
    assert not journal.open("c2", "worker-a", now)
    traces = journal.revoke("c1", now)
    assert traces.of(1) == Trace("dot", complete=False)
    assert traces.of(2) == Trace("", complete=False)


@pytest.mark.faults
def test_a_tombstone_that_a_kill_took_back_lets_no_dot_through(server, client):
    """`kill -9` may lose the last second of the file: the claim is open again there, but not in its epoch."""
    now, _ = epoch.keep(client, live_workers=True)
    journal = Journal(client)
    journal.open("c1", "worker-a", now)
    client.config_set("appendfsync", "always")
    client.set("synced", "1")
    journal.revoke("c1", now)
    server.kill()
    aof = next((server.directory / "appendonlydir").glob("*.incr.aof"))
    whole = aof.read_bytes()
    cut = whole.index(b"synced\r\n$1\r\n1\r\n") + len(b"synced\r\n$1\r\n1\r\n")
    assert b"revoked" in whole[cut:]
    aof.write_bytes(whole[:cut])
    server.start()
    assert client.hget("postfleet:journal:c1", "state") == "open"
    assert not journal.dot("c1", 1)
    epoch.keep(client, live_workers=True)
    assert not journal.dot("c1", 1)


@pytest.mark.faults
def test_a_journal_out_of_reach_says_so(server, client):
    now, _ = epoch.keep(client, live_workers=True)
    journal = Journal(client)
    server.kill()
    for call in (
        lambda: journal.open("c1", "worker-a", now),
        lambda: journal.advance("c1", {}, {1: 1.0}),
        lambda: journal.dot("c1", 1),
        lambda: journal.advance("c1", {1: "250 ok"}, {}),
        lambda: journal.revoke("c1", now),
        lambda: journal.close("c1"),
    ):
        with pytest.raises(PipeUnavailable, match="Redis"):
            call()
