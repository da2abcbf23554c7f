"""Look after a queue's messages: keep rows on offer while theirs waits, delete those that mean nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import structlog
from sqlalchemy import Connection

from postfleet_workers.relay import rows
from postfleet_workers.relay.queue import Item, Message, Pipe

log = structlog.get_logger(__name__)
FETCHED_PUBLICATIONS = 2  # publishing leases within which a worker claims what it has fetched


def look_after(
    connection: Connection, pipe: Pipe, road: str, belongs: Callable[[str, str], bool], live: set[str], seconds: float
) -> None:
    """One pass over the messages of a queue in Redis.

    Args:
        connection: to the ledger.
        pipe: to Redis.
        road: what Redis calls the queue.
        belongs: whether jobs of a queue (as the ledger calls it) and a route go that way. Those that do not any more,
            because their node has become Dedicated or has ceased to be, are taken back and go their new way at once.
        live: brokers of live workers.
        seconds: of a publishing lease.

    A message that waits in the list keeps its rows on offer for `seconds` more. So does one that a live worker has
    fetched, but only while it is young: the worker may have lost it, an answer that never arrived, a consumer that
    began anew, and would then never run it. One whose jobs execute stays until their worker is done with it.
    Messages that nobody will run and messages whose rows have moved on are deleted; rows that a deleted message offered
    may be published again at once.
    """
    messages = pipe.messages(road)
    if not messages:
        return
    since_ms = (pipe.server_time() - FETCHED_PUBLICATIONS * seconds) * 1000
    items = [item for message in messages for item in message.items]
    with connection.begin():
        offers = rows.offered(connection, items)
    meant = {
        item: offer.executing for item, offer in offers.items() if offer.executing or belongs(offer.queue, offer.route)
    }
    kept, dropped = sort(messages, meant, live, since_ms)
    pipe.drop(road, dropped)
    with connection.begin():
        rows.extend(
            connection, [item for m in kept if m.waiting or m.pushed_ms >= since_ms for item in m.items], seconds
        )
        rows.extend(connection, [item for m in dropped for item in m.items], 0.0)
    if dropped:
        log.info("messages_dropped", queue=road, messages=len(dropped))


def sort(
    messages: Sequence[Message], meant: Mapping[Item, bool], live: set[str], since_ms: float
) -> tuple[list[Message], list[Message]]:
    """Messages to keep and messages to delete. Pure.

    Args:
        messages: all of a queue.
        meant: items that still mean something, and whether they execute.
        live: brokers of live workers.
        since_ms: a fetched message that was pushed before and whose jobs do not execute is lost.
    """
    kept: list[Message] = []
    dropped: list[Message] = []
    for message in messages:
        states = [meant[item] for item in message.items if item in meant]
        in_reach = message.waiting or (
            message.broker is not None and message.broker in live and (message.pushed_ms >= since_ms or any(states))
        )
        (kept if states and in_reach else dropped).append(message)
    return kept, dropped
