"""Look after a queue's messages: keep rows on offer while theirs waits, delete those that mean nothing."""

from __future__ import annotations

import structlog
from sqlalchemy import Connection

from postfleet_workers.relay import rows
from postfleet_workers.relay.queue import Message, Pipe

log = structlog.get_logger(__name__)


def look_after(connection: Connection, pipe: Pipe, queue: str, live: set[str], seconds: float) -> None:
    """One pass over the queue's messages.

    A message that waits in the list, or that a live worker has fetched, keeps its rows on offer for `seconds` more.
    Messages of dead workers, orphans and messages whose rows have moved on are deleted; rows that a deleted message
    offered may be published again at once.
    """
    pipe.bury(queue)
    messages = pipe.messages(queue)
    if not messages:
        return
    items = [item for message in messages for item in message.items]
    with connection.begin():
        meant = rows.offered(connection, items)
    kept, dropped = sort(messages, meant, live)
    pipe.drop(queue, dropped)
    with connection.begin():
        rows.extend(connection, [item for message in kept for item in message.items], seconds)
        rows.extend(connection, [item for message in dropped for item in message.items], 0.0)
    if dropped:
        log.info("messages_dropped", queue=queue, messages=len(dropped))


def sort(messages: list[Message], meant: set[tuple[int, int]], live: set[str]) -> tuple[list[Message], list[Message]]:
    """Messages to keep and messages to delete. Pure."""
    kept: list[Message] = []
    dropped: list[Message] = []
    for message in messages:
        in_reach = message.waiting or (message.broker is not None and message.broker in live)
        keep = in_reach and any(item in meant for item in message.items)
        (kept if keep else dropped).append(message)
    return kept, dropped
