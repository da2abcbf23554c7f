"""Dramatiq's in-process queue, replaced: messages wait by queue, threads take them by `Shares`.

Dramatiq puts every fetched message into one queue ordered by actor priority and arrival, so bulk mail that came first
keeps urgent mail waiting until a thread is free. Here some threads serve only the first queue, and the others take
turns by weight.
"""

from __future__ import annotations

import json
import threading
from collections import deque
from queue import Empty
from typing import Any

import redis
import structlog
from dramatiq.common import join_all
from dramatiq.worker import ConsumerThread, Worker, _WorkerThread

from postfleet_workers.worker.shares import Shares

log = structlog.get_logger(__name__)

IDLE_SECONDS = 1.0
CONSUMER_STOP_MS = 10_000


def _cache(consumer: ConsumerThread) -> list[Any]:
    """Messages that were fetched but not handed on yet, as JSON."""
    return list(getattr(consumer.consumer, "message_cache", ()))


class Lanes:
    """The messages that this process has fetched, by queue. Offers what Dramatiq uses of `queue.PriorityQueue`."""

    def __init__(self, shares: Shares) -> None:
        self._shares = shares
        self._waiting: dict[str, deque[Any]] = {}
        self._changed = threading.Condition()

    def put(self, item: Any) -> None:
        """Add a fetched message."""
        with self._changed:
            self._waiting.setdefault(item.message.queue_name, deque()).append(item)
            # The one thread that `notify` would choose may be reserved for another queue.
            self._changed.notify_all()

    def take(self, timeout: float, *, reserved: bool) -> Any:
        """The next message for a thread.

        Raises:
            Empty: none came within `timeout` seconds.
        """
        with self._changed:
            queue = self._changed.wait_for(lambda: self._pick(reserved=reserved), timeout)
            if not queue:
                raise Empty
            messages = self._waiting[queue]
            item = messages.popleft()
            if not messages:
                del self._waiting[queue]
            return item

    def drain(self, queue: str) -> list[Any]:
        """Take out every message of a queue."""
        with self._changed:
            return list(self._waiting.pop(queue, ()))

    def task_done(self) -> None:
        """Dramatiq counts; nobody asks."""

    def _pick(self, *, reserved: bool) -> str | None:
        return self._shares.pick(self._waiting.keys(), reserved=reserved) if self._waiting else None


class Lane:
    """One thread's view of the lanes."""

    def __init__(self, lanes: Lanes, *, reserved: bool) -> None:
        self._lanes = lanes
        self._reserved = reserved

    def get(self, timeout: float) -> Any:  # noqa: ARG002 - Dramatiq's poll interval is the consumers', not ours
        """See `Lanes.take`; waits up to a second, as putting wakes it."""
        return self._lanes.take(IDLE_SECONDS, reserved=self._reserved)

    def task_done(self) -> None:
        """See `Lanes.task_done`."""


class LaneWorker(Worker):
    """Dramatiq's worker with lanes, without delay queues (what is not due waits as a row)."""

    def __init__(self, broker: Any, *, queues: list[str], threads: int, poll_ms: int, reserved: int, lanes: Lanes):  # noqa: ANN204
        super().__init__(broker, queues=set(queues), worker_timeout=poll_ms, worker_threads=threads)
        # Counts running messages too: a process never holds more of a queue than it has threads for.
        self.queue_prefetch = threads
        self.work_queue: Any = lanes
        self._reserved = reserved

    def stop(self, timeout: int = 600_000) -> None:
        """Stop fetching first, return what no thread has begun at once, then wait for the threads (milliseconds).

        Dramatiq's own order is threads first: until the last job has ended its consumers go on fetching, and what they
        fetch, urgent or not, waits with them.
        """
        for consumer in self.consumers.values():
            consumer.stop()
        for thread in self.workers:
            thread.stop()
        join_all(self.consumers.values(), CONSUMER_STOP_MS)  # type: ignore[no-untyped-call]
        for queue, consumer in self.consumers.items():
            waiting = [item.message.options["redis_message_id"] for item in self.work_queue.drain(queue)]
            cached = [json.loads(data)["options"]["redis_message_id"] for data in _cache(consumer) if data]
            if waiting or cached:
                try:
                    self.broker.do_requeue(queue, *waiting, *cached)  # type: ignore[attr-defined]
                except redis.RedisError as error:  # then the relay finds them with a broker that is gone
                    log.warning("messages_not_returned", queue=queue, error=str(error))
        join_all(self.workers, timeout)  # type: ignore[no-untyped-call]

    def _add_consumer(self, queue_name: str, *, delay: bool = False) -> None:
        if not delay:
            super()._add_consumer(queue_name)

    def _add_worker(self) -> None:
        lane: Any = Lane(self.work_queue, reserved=len(self.workers) < self._reserved)
        thread = _WorkerThread(
            broker=self.broker, consumers=self.consumers, work_queue=lane, worker_timeout=self.worker_timeout
        )
        thread.start()
        self.workers.append(thread)
