"""A queue's messages in Redis, in Dramatiq's own layout: push bundles, and look after what was pushed.

Keys (namespace `dramatiq`): list `dramatiq:<q>` of ids that wait, hash `dramatiq:<q>.msgs` id -> message (waiting and
fetched, until acked), set `dramatiq:__acks__.<broker>.<q>` of ids that a process has fetched.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import redis

from postfleet_workers.pipe import pipe_errors

NAMESPACE = "dramatiq"
HEARTBEATS = f"{NAMESPACE}:__heartbeats__"
Item = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Message:
    """A bundle on its way: Dramatiq's id of it, the (job id, publication) pairs, and where it is.

    `waiting`: in the list; else `broker` is the process that fetched it, or None for an orphan that nobody will run.
    `pushed_ms`: when, on Redis' clock (epoch).
    """

    id: str
    items: tuple[Item, ...]
    waiting: bool
    broker: str | None
    pushed_ms: float = field(default=0.0, compare=False)


def encode(queue: str, actor: str, items: Sequence[Item], now_ms: int) -> tuple[str, str]:
    """A Dramatiq message for one bundle: (id, JSON). `redis_message_id` is what Dramatiq's broker acks by."""
    message_id = str(uuid4())
    message = {
        "queue_name": queue,
        "actor_name": actor,
        "args": [[list(item) for item in items]],
        "kwargs": {},
        "options": {"redis_message_id": message_id},
        "message_id": message_id,
        "message_timestamp": now_ms,
    }
    return message_id, json.dumps(message, separators=(",", ":"))


def decode(data: str) -> tuple[tuple[Item, ...], float]:
    """The (job id, publication) pairs of a message and when it was pushed; no pairs for a message that is not ours.

    Numbers that no row can have are not ours either: PostgreSQL would refuse the whole question they are part of.
    """
    try:
        message = json.loads(data)
        items = tuple((int(job), int(publication)) for job, publication in message["args"][0])
        pushed_ms = float(message["message_timestamp"])
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return (), 0.0
    ours = all(0 <= job < 2**63 and 0 <= publication < 2**31 for job, publication in items)
    return items if ours else (), pushed_ms


class Pipe:
    """The messages of every queue in one Redis."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client

    def depths(self, queues: Sequence[str]) -> dict[str, int]:
        """Messages waiting or in flight, by queue."""
        with pipe_errors():
            pipe = self._client.pipeline(transaction=False)
            for queue in queues:
                pipe.hlen(f"{NAMESPACE}:{queue}.msgs")
            return dict(zip(queues, pipe.execute(), strict=True))

    def queues(self) -> set[str]:
        """Every queue that has messages, by its name in Redis."""
        with pipe_errors():
            found = self._client.scan_iter(match=f"{NAMESPACE}:*.msgs", count=1000)
            return {key.removeprefix(f"{NAMESPACE}:").removesuffix(".msgs") for key in found}

    def server_time(self) -> float:
        """Redis' clock, epoch seconds."""
        with pipe_errors():
            answer: Any = self._client.time()
        return float(answer[0] + answer[1] / 1e6)

    def push(self, queue: str, bundles: Sequence[tuple[str, Sequence[Item]]], now_ms: int) -> None:
        """Push (actor, items) bundles in one transaction."""
        if not bundles:
            return
        messages: dict[Any, Any] = dict(encode(queue, actor, items, now_ms) for actor, items in bundles)
        with pipe_errors():
            pipe = self._client.pipeline(transaction=True)
            pipe.hset(f"{NAMESPACE}:{queue}.msgs", mapping=messages)
            pipe.rpush(f"{NAMESPACE}:{queue}", *messages)
            pipe.execute()

    def messages(self, queue: str) -> list[Message]:
        """Every message of the queue with the broker that holds it, None while it waits in the list."""
        with pipe_errors():
            brokers: Any = self._client.zrange(HEARTBEATS, 0, -1)
            pipe = self._client.pipeline(transaction=True)
            pipe.hgetall(f"{NAMESPACE}:{queue}.msgs")
            pipe.lrange(f"{NAMESPACE}:{queue}", 0, -1)
            for broker in brokers:
                pipe.smembers(f"{NAMESPACE}:__acks__.{broker}.{queue}")
            stored, listed, *fetched = pipe.execute()
        holder = {mid: broker for broker, mids in zip(brokers, fetched, strict=True) for mid in mids}
        waiting = set(listed)
        found = []
        for mid, data in stored.items():
            items, pushed_ms = decode(data)
            found.append(Message(mid, items, mid in waiting, holder.get(mid), pushed_ms))
        return found

    def drop(self, queue: str, messages: Sequence[Message]) -> None:
        """Delete messages wherever they are; the rows are the truth."""
        if not messages:
            return
        with pipe_errors():
            pipe = self._client.pipeline(transaction=True)
            pipe.hdel(f"{NAMESPACE}:{queue}.msgs", *(m.id for m in messages))
            for message in messages:
                if message.broker:
                    pipe.srem(f"{NAMESPACE}:__acks__.{message.broker}.{queue}", message.id)
                else:
                    pipe.lrem(f"{NAMESPACE}:{queue}", 1, message.id)
            pipe.execute()

    def forget_brokers(self, live: set[str], before_ms: float) -> None:
        """Delete brokers that neither live nor called since `before_ms` (epoch), with what they had fetched."""
        with pipe_errors():
            stale: Any = self._client.zrangebyscore(HEARTBEATS, 0, before_ms)
            for broker in set(stale) - live:
                keys = list(self._client.scan_iter(match=f"{NAMESPACE}:__acks__.{broker}.*", count=1000))
                pipe = self._client.pipeline(transaction=True)
                pipe.zrem(HEARTBEATS, broker)
                if keys:
                    pipe.delete(*keys)
                pipe.execute()

    def paces(self, fields: Sequence[str]) -> dict[str, float]:
        """Measured seconds that a job takes of a thread, by `<type>|<route>`, where known."""
        return self._seconds("postfleet:pace", fields)

    def held(self, fields: Sequence[str]) -> dict[str, float]:
        """Measured seconds that a job holds its place: longer, where a thread works on several at once."""
        return self._seconds("postfleet:pace:held", fields)

    def _seconds(self, key: str, fields: Sequence[str]) -> dict[str, float]:
        if not fields:
            return {}
        with pipe_errors():
            values: Any = self._client.hmget(key, list(fields))
        return {field: float(value) for field, value in zip(fields, values, strict=True) if value is not None}

    def announced(self) -> set[str]:
        """Queues that pools have announced."""
        with pipe_errors():
            members: Any = self._client.smembers("postfleet:queues")
        return set(members)

    def report(self, records: dict[str, dict[str, Any]], ttl_seconds: int) -> None:
        """Write the relay's record of each queue."""
        if not records:
            return
        with pipe_errors():
            pipe = self._client.pipeline(transaction=False)
            for queue, record in records.items():
                pipe.set(f"postfleet:relay:{queue}", json.dumps(record), ex=ttl_seconds)
            pipe.execute()
