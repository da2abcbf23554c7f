"""The same work as a taskiq task, tuned: a Redis list, no results, a thread pool for what blocks."""

from __future__ import annotations

import asyncio
import os

from taskiq_redis import ListQueueBroker

from speed.work import hands

# It waits for messages with a call that blocks; redis-py's time limit for replies ends that, and the worker with it.
broker = ListQueueBroker(os.environ["BENCH_REDIS_URL"], queue_name="mails", socket_timeout=None)


@broker.task(task_name="send")
def send(number: int) -> None:
    """One mail."""
    hands().send_one(number)


def enqueue(numbers: range) -> None:
    """Send a message each."""

    async def run() -> None:
        await broker.startup()
        for number in numbers:
            await send.kiq(number)
        await broker.shutdown()

    asyncio.run(run())
