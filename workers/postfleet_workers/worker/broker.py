"""Dramatiq's broker without its own delivery rules: one try, no retries, no delays, no maintenance.

Delivery is the ledger's business. A message only says which rows to claim; losing one, or running one twice, is
harmless. Queues and their layout in Redis are Dramatiq's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

RunBundle = Callable[[str, Sequence[tuple[int, int]]], None]


class LedgerBroker(RedisBroker):
    """A Redis broker that takes every message to `run`, whatever type it names: the ledger decides what becomes of it.

    `maintenance_chance=0`: Dramatiq would re-queue what a paused process had fetched after 60 s; the relay decides that
    by leases.
    """

    def __init__(self, client: redis.Redis, broker_id: str, run: RunBundle) -> None:
        super().__init__(client=client, middleware=[], maintenance_chance=0)  # type: ignore[no-untyped-call]
        self.broker_id = broker_id
        self._run = run

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
