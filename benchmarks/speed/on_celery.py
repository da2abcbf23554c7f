"""The same work as a Celery task, tuned: prefork, late acks off, no results, events or gossip, a prefetch of 64."""

from __future__ import annotations

import os

from celery import Celery

from speed.work import hands

app = Celery("bench", broker=os.environ["BENCH_REDIS_URL"])
app.conf.update(
    task_ignore_result=True,
    task_default_queue="mails",
    task_store_errors_even_if_ignored=False,
    worker_prefetch_multiplier=64,
    worker_send_task_events=False,
    worker_disable_rate_limits=True,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)


@app.task(name="send")
def send(number: int) -> None:
    """One mail."""
    hands().send_one(number)


def enqueue(numbers: range) -> None:
    """Send a message each."""
    with app.connection_for_write() as connection, app.amqp.Producer(connection) as producer:
        for number in numbers:
            send.apply_async((number,), producer=producer)
