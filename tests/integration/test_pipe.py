"""Connections to Redis: one try, a bounded wait, errors in the package's own words."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest
import redis

from postfleet_local.stack import Valkey, free_port
from postfleet_workers import pipe
from postfleet_workers.errors import InputError, PipeUnavailable


@pytest.mark.parametrize(
    "url", ["localhost:6379", "http://localhost/0", "redis://localhost:port/0", "postgresql://x/y"]
)
def test_a_url_that_is_none_is_a_clear_input_error(url):
    with pytest.raises(InputError, match=r"POSTFLEET_REDIS_URL: .*; give redis://host:port/db") as caught:
        pipe.connect(url)
    assert "\n" not in str(caught.value)


def test_no_url_is_said():
    with pytest.raises(InputError, match=r"^POSTFLEET_REDIS_URL is not set; set it in the environment"):
        pipe.connect("")


def test_a_client_speaks_text(redis_url):
    client = pipe.connect(redis_url)
    client.set("greeting", "grüße")
    assert client.get("greeting") == "grüße"
    client.close()


def test_a_refused_connection_is_pipe_unavailable():
    client = pipe.connect(f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(PipeUnavailable, match="refused"), pipe.pipe_errors():
        client.ping()


@pytest.mark.faults
def test_a_call_that_times_out_is_not_made_twice(tmp_path, monkeypatch):
    """Facts, T5: redis-py's ten retries list a message again for each try that a stalled server reads later."""
    monkeypatch.setattr(pipe, "SOCKET_TIMEOUT_SECONDS", 0.3)
    server = Valkey(tmp_path / "valkey")
    server.start()
    client = pipe.connect(server.url())
    try:
        client.ping()
        os.kill(server.process.pid, signal.SIGSTOP)
        with pytest.raises(PipeUnavailable, match="Timeout"), pipe.pipe_errors():
            client.rpush("queue", "message")
        os.kill(server.process.pid, signal.SIGCONT)
        assert client.llen("queue") == 1
    finally:
        os.kill(server.process.pid, signal.SIGCONT)
        client.close()
        server.stop()


def test_a_server_that_cannot_write_is_unavailable_and_a_mistake_is_not(redis_client):
    redis_client.set("text", "x")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"), pipe.pipe_errors():
        redis_client.rpush("text", "y")
    redis_client.config_set("maxmemory", 1)
    try:
        with pytest.raises(PipeUnavailable), pipe.pipe_errors():
            redis_client.set("text", "y")
        with pytest.raises(PipeUnavailable), pipe.pipe_errors():
            redis_client.eval("return redis.call('SET', KEYS[1], 'y')", 1, "text")
    finally:
        redis_client.config_set("maxmemory", 0)


@pytest.mark.faults
def test_starting_before_redis_waits_for_it(tmp_path):
    server = Valkey(tmp_path / "valkey")
    client = pipe.connect(server.url())
    starter = threading.Thread(target=server.start)
    starter.start()
    try:
        pipe.wait_until_up(client, 20.0)
        assert client.ping()
    finally:
        starter.join()
        client.close()
        server.stop()


def test_a_redis_that_never_comes_is_named_with_the_setting_to_check():
    client = pipe.connect(f"redis://127.0.0.1:{free_port()}/0")
    started = time.monotonic()
    with pytest.raises(PipeUnavailable, match=r"waited 0 s; check POSTFLEET_REDIS_URL"):
        pipe.wait_until_up(client, 0.2)
    assert time.monotonic() - started < 5


@pytest.mark.faults
def test_a_pooled_connection_of_a_restarted_server_is_replaced(tmp_path):
    server = Valkey(tmp_path / "valkey")
    server.start()
    client = pipe.connect(server.url())
    try:
        client.set("kept", "1")
        server.stop()
        server.start()
        with pipe.pipe_errors():
            assert client.get("kept") == "1"
    finally:
        client.close()
        server.stop()
