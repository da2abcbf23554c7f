"""The same work as a plain Dramatiq actor, tuned: no middleware, results or retries, a prefetch of 128."""

from __future__ import annotations

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from speed.work import hands

os.environ.setdefault("dramatiq_queue_prefetch", "128")
broker = RedisBroker(url=os.environ["BENCH_REDIS_URL"], middleware=[], namespace="bench")
dramatiq.set_broker(broker)


@dramatiq.actor(queue_name="mails")
def send(number: int) -> None:
    """One mail."""
    hands().send_one(number)


def enqueue(numbers: range) -> None:
    """Send a message each."""
    for number in numbers:
        send.send(number)
