"""Leases of SMTP sessions, in Redis and in memory: never more than `maxConnections`, whatever dies or is forgotten."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from postfleet_local.stack import Valkey
from postfleet_workers import epoch
from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.pipe import connect
from postfleet_workers.throttling.redis import RedisSessions, sessions_key
from worlds import LEASE_SECONDS, AnyWorld, MemoryWorld, RedisWorld


@pytest.fixture(params=["redis", "memory"])
def world(request: pytest.FixtureRequest) -> AnyWorld:
    return RedisWorld(request.getfixturevalue("redis_client")) if request.param == "redis" else MemoryWorld()


def test_a_node_has_no_more_sessions_than_its_maximum(world):
    assert [world.sessions.acquire("acme-1", 2, session) for session in "abc"] == [True, True, False]
    assert world.sessions.acquire("acme-2", 2, "c")


def test_a_session_may_ask_again_without_counting_twice(world):
    assert [world.sessions.acquire("acme-1", 2, session) for session in "aab"] == [True, True, True]


def test_a_released_session_is_free_for_another(world):
    world.sessions.acquire("acme-1", 1, "a")
    world.sessions.release("acme-1", "a")
    world.sessions.release("acme-1", "a")
    assert world.sessions.acquire("acme-1", 1, "b")


def test_a_lease_lapses_by_itself_and_its_late_holder_is_told(world):
    world.sessions.acquire("acme-1", 1, "dead")
    world.clock.advance(LEASE_SECONDS - 0.001)
    assert not world.sessions.acquire("acme-1", 1, "b")
    world.clock.advance(0.001)
    assert world.sessions.acquire("acme-1", 1, "b")
    assert world.sessions.renew([("acme-1", "dead"), ("acme-1", "b")]) == [("acme-1", "dead")]


def test_a_renewed_lease_lives_on(world):
    world.sessions.acquire("acme-1", 1, "a")
    for _ in range(6):
        world.clock.advance(LEASE_SECONDS / 3)
        assert world.sessions.renew([("acme-1", "a")]) == []
    assert not world.sessions.acquire("acme-1", 1, "b")
    assert world.sessions.renew([]) == []


def test_a_late_renewal_is_fine_while_nobody_took_the_place(world):
    world.sessions.acquire("acme-1", 1, "a")
    world.clock.advance(LEASE_SECONDS * 1.5)
    assert world.sessions.renew([("acme-1", "a")]) == []
    assert not world.sessions.acquire("acme-1", 1, "b")


def test_a_lowered_maximum_binds_new_sessions(world):
    for session in "abc":
        world.sessions.acquire("acme-1", 3, session)
    world.sessions.release("acme-1", "a")
    assert not world.sessions.acquire("acme-1", 2, "d")
    assert world.sessions.renew([("acme-1", "b"), ("acme-1", "c")]) == []


@pytest.mark.parametrize("fault", ["flush", "restart"])
def test_after_redis_forgot_holders_register_first_and_new_sessions_wait_one_lease(world, fault):
    world.sessions.acquire("acme-1", 2, "a")
    getattr(world, fault)()
    assert not world.sessions.acquire("acme-1", 2, "b")
    world.keep(live_workers=True)
    assert not world.sessions.acquire("acme-1", 2, "b")
    world.clock.advance(LEASE_SECONDS / 3)
    assert world.sessions.renew([("acme-1", "a")]) == []
    world.clock.advance(LEASE_SECONDS * 2 / 3 - 0.001)
    assert not world.sessions.acquire("acme-1", 2, "b")
    world.clock.advance(0.001)
    assert world.sessions.acquire("acme-1", 2, "b")
    assert not world.sessions.acquire("acme-1", 2, "c")


def test_holders_are_registering_from_the_loss_until_a_lease_after_it_was_noticed(world):
    assert not world.sessions.registering()
    world.flush()
    assert world.sessions.registering()
    world.keep(live_workers=True)
    world.clock.advance(LEASE_SECONDS - 0.001)
    assert world.sessions.registering()
    world.clock.advance(0.001)
    assert not world.sessions.registering()


def test_a_holder_that_renews_before_the_relay_has_noticed_is_registered(world):
    world.sessions.acquire("acme-1", 1, "a")
    world.flush()
    assert world.sessions.renew([("acme-1", "a")]) == []
    world.keep(live_workers=False)
    assert not world.sessions.acquire("acme-1", 1, "b")


def test_without_live_workers_nobody_waits_after_a_flush(world):
    world.flush()
    world.keep(live_workers=False)
    assert world.sessions.acquire("acme-1", 1, "a")


def test_threads_together_never_hold_more_than_the_maximum(world):
    maximum, held, most, lock = 5, set(), [0], threading.Lock()

    def work(name: str) -> int:
        won = 0
        for round_ in range(25):
            session = f"{name}-{round_}"
            if world.sessions.acquire("acme-1", maximum, session):
                with lock:
                    held.add(session)
                    most[0] = max(most[0], len(held))
                world.sessions.renew([("acme-1", session)])
                with lock:
                    held.discard(session)
                world.sessions.release("acme-1", session)
                won += 1
        return won

    with ThreadPoolExecutor(16) as threads:
        won = sum(threads.map(work, map(str, range(16))))
    assert won >= maximum
    assert most[0] <= maximum


def test_a_dead_holders_lease_lapses_on_the_servers_clock(redis_client):
    epoch.keep(redis_client, live_workers=False)
    sessions = RedisSessions(redis_client, lease_seconds=0.2)
    started = time.monotonic()
    assert sessions.acquire("acme-1", 1, "dead")
    while not sessions.acquire("acme-1", 1, "next"):
        assert time.monotonic() < started + 5
    assert time.monotonic() - started > 0.15
    assert 0 < redis_client.pttl(sessions_key("acme-1")) <= 400


@pytest.mark.faults
def test_sessions_out_of_reach_say_so(tmp_path):
    server = Valkey(tmp_path / "valkey")
    server.start()
    client = connect(server.url())
    sessions = RedisSessions(client)
    try:
        epoch.keep(client, live_workers=False)
        assert sessions.acquire("acme-1", 1, "a")
        server.kill()
        for call in (
            lambda: sessions.acquire("acme-1", 1, "a"),
            lambda: sessions.renew([("acme-1", "a")]),
            lambda: sessions.registering(),
            lambda: sessions.release("acme-1", "a"),
        ):
            with pytest.raises(PipeUnavailable):
                call()
    finally:
        client.close()
        server.stop()
