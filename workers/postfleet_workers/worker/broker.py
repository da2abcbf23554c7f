"""Dramatiq's broker without its own delivery rules: one try, no retries, no delays, no maintenance.

Delivery is the ledger's business. A message only says which rows to claim; losing one, or running one twice, is
harmless. Queues and their layout in Redis are Dramatiq's own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker, _RedisConsumer

RunBundle = Callable[[str, Sequence[tuple[int, int]]], None]


class PromptConsumer(_RedisConsumer):
    """Fetches the next message when a thread has become free, where Dramatiq's own looks again at its next poll.

    The more often it has found no room, the longer that takes: up to the poll interval, as long as a bundle of quick
    jobs. While there is room it polls as Dramatiq's does.
    """

    def __init__(self, broker: RedisBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        super().__init__(broker, queue_name, prefetch, timeout)  # type: ignore[no-untyped-call]
        self._freed = threading.Event()

    def ack(self, message: Any) -> None:
        """A thread is done with a message."""
        try:
            super().ack(message)  # type: ignore[no-untyped-call]
        finally:
            self._freed.set()

    def nack(self, message: Any) -> None:
        """The same, where Dramatiq gave up on it."""
        try:
            super().nack(message)  # type: ignore[no-untyped-call]
        finally:
            self._freed.set()

    def __next__(self) -> Any:
        self._freed.clear()  # first: what comes free from here on is not missed
        if self.message_cache or self.outstanding_message_count < self.prefetch:
            return super().__next__()  # type: ignore[no-untyped-call]
        self.misses = 0
        self._freed.wait(self.timeout / 1000)
        return None


class LedgerBroker(RedisBroker):
    """A Redis broker that takes every message to `run`, whatever type it names: the ledger decides what becomes of it.

    `maintenance_chance=0`: Dramatiq would re-queue what a paused process had fetched after 60 s; the relay decides that
    by leases.
    """

    def __init__(self, client: redis.Redis, broker_id: str, run: RunBundle) -> None:
        super().__init__(client=client, middleware=[], maintenance_chance=0)  # type: ignore[no-untyped-call]
        self.broker_id = broker_id
        self._run = run

    @property
    def consumer_class(self) -> type[_RedisConsumer]:
        """What Dramatiq's worker reads a queue with."""
        return PromptConsumer

    def get_actor(self, actor_name: str) -> dramatiq.Actor[Any, Any]:
        """The actor of a job type; made when its first message comes. Dramatiq would bury an unknown one's messages."""
        if actor_name not in self.actors:
            self.actors[actor_name] = self._actor(actor_name)
        return self.actors[actor_name]

    def _actor(self, name: str) -> dramatiq.Actor[Any, Any]:
        def perform(bundle: list[list[int]]) -> None:
            self._run(name, [(int(job_id), int(publication)) for job_id, publication in bundle])

        # The queue of an actor only matters to Dramatiq's `send`, which nothing here uses; the relay names the queue.
        return dramatiq.Actor(perform, broker=self, actor_name=name, queue_name="", priority=0, options={})


def make(client: redis.Redis, broker_id: str, queues: Iterable[str], run: RunBundle) -> LedgerBroker:
    """A broker that consumes `queues`. `client` must not decode replies and must not repeat calls."""
    broker = LedgerBroker(client, broker_id, run)
    for queue in queues:
        broker.declare_queue(queue)
    return broker
