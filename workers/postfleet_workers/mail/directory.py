"""Campaigns, nodes and tenants as deliveries need them: read from PostgreSQL, kept for seconds, shared by threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import structlog
from sqlalchemy import Connection, RowMapping, TextClause

from postfleet_workers.mail import queries
from postfleet_workers.mail.message.attachments import Attachments
from postfleet_workers.mail.node import UNREADABLE, NodeSpec, parse_node
from postfleet_workers.throttling.limits import Limit, campaign_limits, tenant_limits

log = structlog.get_logger(__name__)

KEEP_SECONDS = 3.0

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class Campaign:
    """What a campaign's mails have in common; `attachments` are ids."""

    id: int
    name: str
    sender: str
    reply_to: str | None
    subject: str
    text: str
    html: str | None
    unsubscribe_url: str | None
    per_minute: int | None = None
    track_opens: bool = False
    track_clicks: bool = False
    one_click: bool = False
    attachments: Sequence[int] = ()
    list_name: str = ""

    @property
    def limits(self) -> tuple[Limit, ...]:
        """What its mails count against, whichever node they leave from."""
        return campaign_limits(self.id, self.per_minute)


class Kept(Generic[K, V]):
    """Values by key, read again when older than `KEEP_SECONDS`; a key without a value is not remembered.

    `make` gives key and value of a row, or None for one that is as good as absent.
    """

    def __init__(self, statement: TextClause, make: Callable[[RowMapping], tuple[K, V] | None]) -> None:
        self._statement = statement
        self._make = make
        self._lock = threading.Lock()
        self._values: dict[K, tuple[float, V]] = {}

    def get(self, connection: Connection, keys: Iterable[K], now: float) -> dict[K, V]:
        """The values of `keys` that exist; `now` is monotonic seconds."""
        wanted = set(keys)
        with self._lock:
            if len(self._values) > 10_000:
                self._values.clear()
            found = {
                k: v
                for k in wanted
                if (kept := self._values.get(k)) and now - kept[0] < KEEP_SECONDS
                for v in [kept[1]]
            }
        missing = wanted - found.keys()
        return found | self.read(connection, missing, now) if missing else found

    def read(self, connection: Connection, keys: Iterable[K], now: float) -> dict[K, V]:
        """The same, as PostgreSQL has them now."""
        wanted = set(keys)
        rows = connection.execute(self._statement, {"keys": list(wanted)}).mappings()
        fresh = dict(made for row in rows if (made := self._make(row)) is not None)
        with self._lock:
            for gone in wanted - fresh.keys():
                self._values.pop(gone, None)
            self._values.update({key: (now, value) for key, value in fresh.items()})
        return fresh


class Directory:
    """What deliveries look up. Attachments never change: the most recently used ones are kept for good."""

    def __init__(self) -> None:
        self.campaigns: Kept[int, Campaign] = Kept(
            queries.LOAD_CAMPAIGNS, lambda row: (row["id"], Campaign(**dict(row)))
        )
        self.nodes: Kept[str, NodeSpec] = Kept(queries.LOAD_NODES, _node)
        self.tenants: Kept[str, tuple[Limit, ...]] = Kept(
            queries.LOAD_TENANTS,
            lambda row: (row["name"], tenant_limits(row["name"], row["per_minute"], row["per_day"])),
        )
        self.attachments = Attachments()


def _node(row: RowMapping) -> tuple[str, NodeSpec] | None:
    """A node whose spec these workers cannot read, as a newer operator's may be, is absent to them: its mail waits."""
    try:
        node = parse_node(row["name"], row["spec"], paused=row["paused"], slowdowns=row["slowdowns"])
    except UNREADABLE as error:
        log.warning("node_unreadable", node=row["name"], error=f"{type(error).__name__}: {error}")
        return None
    return row["name"], node
