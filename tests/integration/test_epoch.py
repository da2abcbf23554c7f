"""The epoch notices whatever may have made Redis forget, and many relays agree on it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis

from postfleet_local.stack import Valkey
from postfleet_workers import epoch
from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.pipe import connect
from worlds import AnyWorld, MemoryWorld, RedisWorld


@pytest.fixture(params=["redis", "memory"])
def world(request: pytest.FixtureRequest) -> AnyWorld:
    return RedisWorld(request.getfixturevalue("redis_client")) if request.param == "redis" else MemoryWorld()


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


def test_an_epoch_stays_while_redis_remembers(world):
    found = world.current()
    assert found
    assert world.keep(live_workers=True) == (found, False)


@pytest.mark.parametrize("fault", ["flush", "restart"])
def test_a_flush_and_a_restart_end_the_epoch_before_anybody_begins_another(world, fault):
    before = world.current()
    getattr(world, fault)()
    assert world.current() is None
    found, changed = world.keep(live_workers=True)
    assert changed
    assert found not in {None, before}
    assert world.current() == found


def test_the_epoch_names_the_running_server(redis_client):
    found, _ = epoch.keep(redis_client, live_workers=False)
    run_id, _, own = found.partition(":")
    assert run_id == redis_client.info("server")["run_id"]
    assert len(own) == 32
    assert redis_client.get("postfleet:epoch") == found


def test_since_is_the_servers_time_of_the_last_change_that_found_live_workers(redis_client):
    epoch.keep(redis_client, live_workers=False)
    assert redis_client.get("postfleet:epoch:since") is None
    redis_client.flushall()
    seconds, micros = redis_client.time()
    epoch.keep(redis_client, live_workers=True)
    since = float(redis_client.get("postfleet:epoch:since"))
    assert 0 <= since - (seconds + micros / 1e6) < 5
    redis_client.set("postfleet:epoch", "another:epoch")
    epoch.keep(redis_client, live_workers=False)
    assert float(redis_client.get("postfleet:epoch:since")) == since


def test_relays_that_notice_at_once_agree(redis_url, redis_client):
    clients = [connect(redis_url) for _ in range(12)]
    with ThreadPoolExecutor(len(clients)) as threads:
        for _ in range(10):
            redis_client.flushall()
            answers = list(threads.map(lambda c: epoch.keep(c, live_workers=True), clients))
            assert len({found for found, _ in answers}) == 1
            assert [changed for _, changed in answers].count(True) == 1
    for each in clients:
        each.close()


@pytest.mark.faults
@pytest.mark.parametrize("end", ["kill", "stop"])
def test_a_restart_is_noticed_though_the_append_only_file_kept_the_key(server, client, end):
    found, _ = epoch.keep(client, live_workers=True)
    client.waitaof(1, 0, 5000)
    getattr(server, end)()
    server.start()
    assert client.get("postfleet:epoch") == found
    assert epoch.current(client) is None
    after, changed = epoch.keep(client, live_workers=True)
    assert changed
    assert after != found


@pytest.mark.faults
def test_an_epoch_out_of_reach_says_so(server, client):
    server.kill()
    for call in (epoch.current, lambda c: epoch.keep(c, live_workers=True)):
        with pytest.raises(PipeUnavailable, match="Redis"):
            call(client)
    server.start()
    deadline = time.monotonic() + 5
    while not epoch.keep(client, live_workers=True)[0]:
        assert time.monotonic() < deadline
