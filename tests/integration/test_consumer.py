"""How a worker process fetches its messages: as soon as a thread is free. On a real Redis."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from postfleet_workers import pipe
from postfleet_workers.relay.queue import Pipe
from postfleet_workers.worker import broker as brokers

A_MINUTE_MS = 60_000
SOON = 10.0  # bounds a failing test


@pytest.fixture
def broker(redis_client, redis_url):
    Pipe(redis_client).push("q", [("noop", [(number, 1)]) for number in (1, 2)], 0)
    client = pipe.connect(redis_url, decode=False)
    yield brokers.make(client, "worker-1", ["q"], lambda name, items: None)
    client.close()


def test_no_more_is_fetched_than_there_are_threads(broker):
    consumer = broker.consume("q", prefetch=1, timeout=1)
    assert next(consumer).args == ([[1, 1]],)
    assert next(consumer) is None


def test_a_thread_that_becomes_free_has_the_next_message_fetched_at_once(broker):
    consumer = broker.consume("q", prefetch=1, timeout=A_MINUTE_MS)
    first = next(consumer)
    with ThreadPoolExecutor(1) as thread:
        waiting = thread.submit(next, consumer)
        consumer.ack(first)
        # It had waited for room when the ack came, or comes to find it.
        second = waiting.result(SOON) or next(consumer)
    assert second.args == ([[2, 1]],)


def test_one_that_dramatiq_gave_up_on_makes_room_too(broker):
    consumer = broker.consume("q", prefetch=1, timeout=A_MINUTE_MS)
    consumer.nack(next(consumer))
    assert next(consumer).args == ([[2, 1]],)
