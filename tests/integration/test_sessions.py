"""Leases of SMTP sessions, in Redis and in memory: never more than `maxConnections`, whatever dies or is forgotten."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    assert [world.sessions.acquire([("acme-1", 2)], session) for session in "abc"] == [True, True, False]
    assert world.sessions.acquire([("acme-2", 2)], "c")


def test_a_session_may_ask_again_without_counting_twice(world):
    assert [world.sessions.acquire([("acme-1", 2)], session) for session in "aab"] == [True, True, True]


def test_a_session_with_a_site_counts_against_the_node_and_the_site_or_against_neither(world):
    gmail, yahoo = [("acme-1", 3), ("acme-1|gmail", 1)], [("acme-1", 3), ("acme-1|yahoo", 5)]
    assert world.sessions.acquire(gmail, "a")
    assert not world.sessions.acquire(gmail, "b")  # the site has its maximum, and the node is not charged for it
    assert [world.sessions.acquire(yahoo, session) for session in "bcd"] == [True, True, False]
    world.sessions.release(["acme-1", "acme-1|gmail"], "a")
    assert world.sessions.acquire(gmail, "d")


def test_a_lease_that_one_of_its_places_gave_away_is_lost(world):
    gmail = ["acme-1", "acme-1|gmail"]
    world.sessions.acquire([("acme-1", 1), ("acme-1|gmail", 9)], "late")
    world.clock.advance(LEASE_SECONDS)
    assert world.sessions.acquire([("acme-1", 1), ("acme-1|yahoo", 9)], "b")
    assert world.sessions.renew([(["acme-1", "acme-1|yahoo"], "b"), (gmail, "late")]) == [(gmail, "late")]


def test_after_a_flush_a_session_is_registered_in_every_place(world):
    places = ["acme-1", "acme-1|gmail"]
    world.sessions.acquire([(place, 1) for place in places], "a")
    world.flush()
    world.keep(live_workers=True)
    assert world.sessions.renew([(places, "a")]) == []
    world.clock.advance(LEASE_SECONDS)
    assert world.sessions.renew([(places, "a")]) == []
    assert [world.sessions.acquire([(place, 1)], "b") for place in places] == [False, False]


def test_a_released_session_is_free_for_another(world):
    world.sessions.acquire([("acme-1", 1)], "a")
    world.sessions.release(["acme-1"], "a")
    world.sessions.release(["acme-1"], "a")
    assert world.sessions.acquire([("acme-1", 1)], "b")


def test_a_lease_lapses_by_itself_and_its_late_holder_is_told(world):
    world.sessions.acquire([("acme-1", 1)], "dead")
    world.clock.advance(LEASE_SECONDS - 0.001)
    assert not world.sessions.acquire([("acme-1", 1)], "b")
    world.clock.advance(0.001)
    assert world.sessions.acquire([("acme-1", 1)], "b")
    assert world.sessions.renew([(["acme-1"], "dead"), (["acme-1"], "b")]) == [(["acme-1"], "dead")]


def test_a_renewed_lease_lives_on(world):
    world.sessions.acquire([("acme-1", 1)], "a")
    for _ in range(6):
        world.clock.advance(LEASE_SECONDS / 3)
        assert world.sessions.renew([(["acme-1"], "a")]) == []
    assert not world.sessions.acquire([("acme-1", 1)], "b")
    assert world.sessions.renew([]) == []


def test_a_late_renewal_is_fine_while_nobody_took_the_place(world):
    world.sessions.acquire([("acme-1", 1)], "a")
    world.clock.advance(LEASE_SECONDS * 1.5)
    assert world.sessions.renew([(["acme-1"], "a")]) == []
    assert not world.sessions.acquire([("acme-1", 1)], "b")


def test_a_lowered_maximum_binds_new_sessions(world):
    for session in "abc":
        world.sessions.acquire([("acme-1", 3)], session)
    world.sessions.release(["acme-1"], "a")
    assert not world.sessions.acquire([("acme-1", 2)], "d")
    assert world.sessions.renew([(["acme-1"], "b"), (["acme-1"], "c")]) == []


@pytest.mark.parametrize("fault", ["flush", "restart"])
def test_after_redis_forgot_holders_register_first_and_new_sessions_wait_one_lease(world, fault):
    world.sessions.acquire([("acme-1", 2)], "a")
    getattr(world, fault)()
    assert not world.sessions.acquire([("acme-1", 2)], "b")
    world.keep(live_workers=True)
    assert not world.sessions.acquire([("acme-1", 2)], "b")
    world.clock.advance(LEASE_SECONDS / 3)
    assert world.sessions.renew([(["acme-1"], "a")]) == []
    world.clock.advance(LEASE_SECONDS * 2 / 3 - 0.001)
    assert not world.sessions.acquire([("acme-1", 2)], "b")
    world.clock.advance(0.001)
    assert world.sessions.acquire([("acme-1", 2)], "b")
    assert not world.sessions.acquire([("acme-1", 2)], "c")


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
    world.sessions.acquire([("acme-1", 1)], "a")
    world.flush()
    assert world.sessions.renew([(["acme-1"], "a")]) == []
    world.keep(live_workers=False)
    assert not world.sessions.acquire([("acme-1", 1)], "b")


def test_without_live_workers_nobody_waits_after_a_flush(world):
    world.flush()
    world.keep(live_workers=False)
    assert world.sessions.acquire([("acme-1", 1)], "a")


PLACES = (("acme-1", 3), ("acme-1|gmail", 1), ("acme-1|yahoo", 2))
STEP = st.tuples(
    st.sampled_from([0.0, 0.0, 1.0, LEASE_SECONDS / 3, LEASE_SECONDS]),
    st.sampled_from(["acquire", "acquire", "acquire", "renew", "release", "flush", "restart", "keep", "keep_empty"]),
    st.sets(st.integers(0, 2), min_size=1),
    st.sampled_from("abcde"),
)


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=30))
def test_redis_and_its_twin_lease_alike_on_any_sequence(valkey, steps):
    client = connect(valkey.url())
    worlds: list[AnyWorld] = [RedisWorld(client), MemoryWorld()]
    worlds[1].clock.us = worlds[0].clock.us
    for gap, act, picked, session in steps:
        places = [PLACES[i] for i in sorted(picked)]
        names = [place for place, _ in places]
        answers = []
        for world in worlds:
            world.clock.advance(gap)
            match act:
                case "acquire":
                    answers.append(world.sessions.acquire(places, session))
                case "renew":
                    answers.append(world.sessions.renew([(names, session), (["acme-1"], "a")]))
                case "release":
                    answers.append(world.sessions.release(names, session))
                case "flush":
                    answers.append(world.flush())
                case "restart" if world.current():
                    answers.append(world.restart())
                case "restart":
                    answers.append(None)
                case _:
                    answers.append(world.keep(live_workers=act == "keep")[1])
            answers[-1] = (answers[-1], world.sessions.registering())
        assert answers[0] == answers[1]
    client.close()


def test_threads_together_never_hold_more_than_the_maximum(world):
    maximum, held, most, lock = 5, set(), [0], threading.Lock()

    def work(name: str) -> int:
        won = 0
        for round_ in range(25):
            session = f"{name}-{round_}"
            if world.sessions.acquire([("acme-1", maximum)], session):
                with lock:
                    held.add(session)
                    most[0] = max(most[0], len(held))
                world.sessions.renew([(["acme-1"], session)])
                with lock:
                    held.discard(session)
                world.sessions.release(["acme-1"], session)
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
    assert sessions.acquire([("acme-1", 1)], "dead")
    while not sessions.acquire([("acme-1", 1)], "next"):
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
        assert sessions.acquire([("acme-1", 1)], "a")
        server.kill()
        for call in (
            lambda: sessions.acquire([("acme-1", 1)], "a"),
            lambda: sessions.renew([(["acme-1"], "a")]),
            lambda: sessions.registering(),
            lambda: sessions.release(["acme-1"], "a"),
        ):
            with pytest.raises(PipeUnavailable):
                call()
    finally:
        client.close()
        server.stop()
