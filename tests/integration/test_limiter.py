"""Limits in Redis and in memory: the same answers, atomic under concurrency, on the server's own clock."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_local.stack import Valkey
from postfleet_workers import epoch
from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.pipe import connect
from postfleet_workers.throttling.limiter import NO_EPOCH, Admission
from postfleet_workers.throttling.limits import (
    Limit,
    campaign_limits,
    node_limits,
    site_limits,
    slowed_limit,
    tenant_limits,
    warmup_limit,
)
from postfleet_workers.throttling.redis import RedisLimiter
from worlds import AnyWorld, MemoryWorld, RedisWorld

NODE = node_limits("acme-1", {"limits": {"perMinute": 100, "perDay": 1000}})
TENANT = tenant_limits("acme", 40, None)


@pytest.fixture(params=["redis", "memory"])
def world(request: pytest.FixtureRequest) -> AnyWorld:
    return RedisWorld(request.getfixturevalue("redis_client")) if request.param == "redis" else MemoryWorld()


def test_a_bundle_asks_once_and_may_be_told_fewer(world):
    admission = world.limiter.acquire(NODE[:1], 50)
    assert (admission.granted, admission.bound) == (1, "node acme-1 per_minute")
    assert admission.retry_at == pytest.approx(world.clock() + 61 / 98, abs=0.001)
    world.clock.advance(30)
    assert world.limiter.acquire(NODE[:1], 2) == Admission(2)
    assert world.limiter.acquire(NODE[:1], 50).granted == 1


def test_the_tightest_of_several_limits_binds_and_none_is_taken_in_vain(world):
    world.limiter.acquire((*NODE, *TENANT), 1)
    refused = world.limiter.acquire((*NODE, *TENANT), 10)
    assert (refused.granted, refused.bound) == (0, "node acme-1 per_day")
    world.clock.advance(2)
    assert world.limiter.acquire(TENANT, 10).granted == 1
    assert world.limiter.acquire(NODE[:1], 10).granted == 3


def test_peek_answers_many_asks_and_takes_nothing(world):
    asks = [(NODE[:1], 500), (TENANT, 500), ((), 500), ((*NODE[:1], *TENANT), 1)]
    seen = world.limiter.peek_many(asks, 30.0)
    assert [admission.granted for admission in seen] == [49, 20, 500, 1]
    assert [admission.bound for admission in seen] == ["node acme-1 per_minute", "tenant acme per_minute", None, None]
    assert world.limiter.peek_many(asks, 30.0) == seen


def test_unused_permits_can_be_given_back(world):
    world.limiter.acquire(NODE[:1], 1)
    world.clock.advance(30)
    taken = world.limiter.acquire(NODE[:1], 3)
    world.limiter.give_back(NODE[:1], taken.granted, taken.at)
    world.limiter.give_back(NODE[:1], 0, taken.at)
    world.limiter.give_back((), 5, taken.at)
    assert world.limiter.acquire(NODE[:1], 50).granted == 3


@pytest.mark.parametrize("fault", ["flush", "restart"])
def test_after_redis_forgot_nothing_is_granted_before_an_epoch_nor_a_burst_in_it(world, fault):
    world.limiter.acquire(NODE[:1], 1)
    world.clock.advance(60)
    getattr(world, fault)()
    assert world.limiter.acquire(NODE[:1], 5) == Admission(0, world.clock() + 1, NO_EPOCH, 1.0)
    assert world.limiter.peek_many([(NODE[:1], 5)], 60.0) == [Admission(0, world.clock() + 1, NO_EPOCH, 1.0)]
    world.keep(live_workers=True)
    refused = world.limiter.acquire(NODE[:1], 5)
    assert (refused.granted, refused.bound) == (0, "node acme-1 per_minute")
    world.clock.advance(0.7)
    assert world.limiter.acquire(NODE[:1], 5).granted == 1


def test_a_new_installation_waits_for_nothing(world):
    world.flush()
    world.keep(live_workers=False)
    assert world.limiter.acquire(NODE, 1) == Admission(1)


STEP = st.tuples(
    st.sampled_from([0.0, 0.0, 0.1, 0.7, 5.0]) | st.floats(0, 20),
    st.sampled_from(["acquire", "acquire", "acquire", "peek", "give_back", "flush", "restart", "keep", "keep_empty"]),
    st.sets(st.integers(0, 8), max_size=4),
    st.integers(0, 40),
)
POOL = (
    *NODE, *TENANT, Limit("postfleet:limit:test", "test", 1, 10.0), *site_limits("acme-1", "gmail", 30, None, 400),
    *campaign_limits(7, 50), slowed_limit("acme-1", "gmail", 1), warmup_limit("acme-1", 200),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(STEP, max_size=40))
def test_redis_and_its_twin_agree_on_any_sequence(valkey, steps):
    client = connect(valkey.url())
    worlds: list[AnyWorld] = [RedisWorld(client), MemoryWorld()]
    worlds[1].clock.us = worlds[0].clock.us
    takes = [0]
    for gap, act, picked, n in steps:
        limits = tuple(POOL[i] for i in sorted(picked))
        answers = []
        for world in worlds:
            world.clock.advance(gap)
            match act:
                case "acquire":
                    admission = world.limiter.acquire(limits, n)
                    answers.append((admission, admission.at))
                    takes.append(admission.at)
                case "peek":
                    answers.append(world.limiter.peek_many([(limits, n), (POOL, 7)], gap))
                case "give_back":
                    answers.append(world.limiter.give_back(limits, n % 3, takes[-1 - n % len(takes)]))
                case "flush":
                    answers.append(world.flush())
                case "restart" if world.current():
                    answers.append(world.restart())
                case "restart":
                    answers.append(None)
                case _:
                    answers.append(world.keep(live_workers=act == "keep")[1])
        assert answers[0] == answers[1]
    client.close()


def test_a_reserved_permit_is_given_back_as_if_never_taken(world):
    day = (warmup_limit("acme-1", 100),)
    world.limiter.acquire(day, 1)
    world.clock.advance(7200)
    taken = world.limiter.acquire(day, 3)
    world.clock.advance(60)
    assert (taken.granted, world.limiter.acquire(day, 1).bound) == (3, "node acme-1 warmup")
    world.limiter.give_back(day, 1, taken.at)
    world.limiter.give_back(day, 9, taken.at - 1)
    assert [world.limiter.acquire(day, 1).granted for _ in range(2)] == [1, 0]


def test_many_threads_never_get_more_than_the_limit_holds(world):
    limits = node_limits("acme-1", {"limits": {"perMinute": 6000}})
    world.limiter.acquire(limits, 1)
    world.clock.advance(60)
    with ThreadPoolExecutor(16) as threads:
        taken = threads.map(lambda n: world.limiter.acquire(limits, n).granted, [1, 3, 7, 20] * 40)
    assert sum(taken) == 180


def test_the_clock_is_the_servers(redis_client):
    epoch.keep(redis_client, live_workers=False)
    limiter = RedisLimiter(redis_client)
    before = float(redis_client.time()[0])
    admission = limiter.acquire(NODE[:1], 2)
    assert before + 0.6 < admission.retry_at < before + 10
    assert 60_000 < redis_client.pttl(NODE[0].key) <= 64_000


def test_a_script_that_the_server_forgot_is_loaded_again(redis_client):
    world = RedisWorld(redis_client)
    world.limiter.acquire(NODE, 1)
    redis_client.script_flush()
    assert world.limiter.acquire(TENANT, 1) == Admission(1)


@pytest.mark.faults
def test_a_limiter_out_of_reach_says_so_and_works_again_afterwards(tmp_path):
    server = Valkey(tmp_path / "valkey")
    server.start()
    client = connect(server.url())
    limiter = RedisLimiter(client)
    epoch.keep(client, live_workers=False)
    try:
        assert limiter.acquire(NODE, 1) == Admission(1)
        server.kill()
        for call in (
            lambda: limiter.acquire(NODE, 1),
            lambda: limiter.peek_many([(NODE, 1)], 1.0),
            lambda: limiter.give_back(NODE, 1, 0),
        ):
            with pytest.raises(PipeUnavailable):
                call()
        server.start()
        assert limiter.acquire(NODE, 1).bound == NO_EPOCH
        epoch.keep(client, live_workers=True)
        assert limiter.acquire(NODE, 1).granted == 0
    finally:
        client.close()
        server.stop()


@pytest.mark.faults
def test_floods_of_flushes_beside_greedy_threads_never_buy_a_permit(redis_client):
    """On the server's clock: 8 threads ask for all they can get while Redis is emptied 60 times."""
    limit = Limit("postfleet:limit:test:flood:2s", "flood", 40, 2.0)
    limiter = RedisLimiter(redis_client)
    epoch.keep(redis_client, live_workers=True)
    stop, grants, lock = threading.Event(), [], threading.Lock()

    def greedy() -> None:
        while not stop.is_set():
            if granted := limiter.acquire((limit,), 10).granted:
                seconds, micros = redis_client.time()
                with lock:
                    grants.extend([seconds + micros / 1e6] * granted)

    with ThreadPoolExecutor(8) as threads:
        running = [threads.submit(greedy) for _ in range(8)]
        try:
            for flood in range(60):
                stop.wait(0.5 if flood % 20 == 0 else 0.02)
                redis_client.flushall()
                stop.wait(0.01)
                epoch.keep(redis_client, live_workers=True)
        finally:
            stop.set()
        for thread in running:
            thread.result()
    grants.sort()
    assert len(grants) > 20
    assert all(late - early > 1.9 for early, late in zip(grants, grants[40:], strict=False))


def test_errors_of_ours_are_not_taken_for_an_outage(redis_client):
    epoch.keep(redis_client, live_workers=False)
    redis_client.hset(NODE[0].key, "not", "a string")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"):
        RedisLimiter(redis_client).acquire(NODE, 1)
