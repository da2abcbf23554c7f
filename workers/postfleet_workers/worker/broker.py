"""Dramatiq's broker without its own delivery rules: one try, no retries, no delays, no maintenance.

Delivery is the ledger's business. A message only says which rows to claim; losing one, or running one twice, is
harmless. Queues and their layout in Redis are Dramatiq's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import dramatiq
import redis
from dramatiq.brokers.redis import RedisBroker

RunBundle = Callable[[str, Sequence[tuple[int, int]]], None]


def make(
    client: redis.Redis, broker_id: str, queues: Iterable[str], types: Iterable[str], run: RunBundle
) -> RedisBroker:
    """A broker that consumes `queues` and knows an actor for each job type.

    `maintenance_chance=0`: Dramatiq would re-queue what a paused process had fetched after 60 s; the relay decides that
    by leases. `client` must not decode replies and must not repeat calls.
    """
    broker: RedisBroker = RedisBroker(client=client, middleware=[], maintenance_chance=0)  # type: ignore[no-untyped-call]
    broker.broker_id = broker_id
    for name in types:
        _declare(broker, name, run)
    for queue in queues:
        broker.declare_queue(queue)
    return broker


def _declare(broker: RedisBroker, name: str, run: RunBundle) -> None:
    def perform(bundle: list[list[int]]) -> None:
        run(name, [(int(job_id), int(publication)) for job_id, publication in bundle])

    # The queue of an actor only matters to Dramatiq's `send`, which nothing here uses; the relay names the queue.
    actor = dramatiq.Actor(perform, broker=broker, actor_name=name, queue_name="", priority=0, options={})
    broker.actors[name] = actor
