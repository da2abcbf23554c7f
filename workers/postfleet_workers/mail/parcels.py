"""A bundle's emails with all that their delivery needs, loaded with one query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.jobs import Job
from postfleet_workers.mail import queries
from postfleet_workers.mail.directory import Campaign, Directory
from postfleet_workers.mail.message.attachments import Attachment
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.suppressions import Suppressed, Wanted, find, is_plain
from postfleet_workers.mail.tokens import Key
from postfleet_workers.placement import SHARED
from postfleet_workers.store.arrays import plain
from postfleet_workers.throttling.limits import Limit


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `emails` with its contact's attributes, as `queries.LOAD` begins."""

    id: int
    job_id: int
    tenant: str
    campaign_id: int | None
    mail_class: str
    node: str
    recipient: str
    message_id: str
    content: Mapping[str, Any] | None
    status: str
    deferrals: int
    begun_at: datetime | None
    attributes: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Parcel:
    """One email with all that its delivery needs.

    Attributes:
        node: None when the node is gone.
        limits: what it counts against wherever it goes: those of its node, its tenant and its campaign.
        suppressed: why it must not go out, if so.
        files: what it carries; None for what is gone.
    """

    row: Row
    node: NodeSpec | None
    campaign: Campaign | None
    limits: tuple[Limit, ...]
    suppressed: Suppressed | None = None
    files: tuple[Attachment | None, ...] = ()

    @property
    def domain(self) -> str:
        """The recipient's, in lower case."""
        return self.row.recipient.rpartition("@")[2].lower()


@dataclass(frozen=True, slots=True)
class Store:
    """Where parcels are loaded from, and for whom.

    Attributes:
        directory: campaigns, nodes and tenants, kept for seconds.
        place: whose workers these are. A node that is not theirs may have become so just now, and one that is paused
            may go on, so these are looked up again: what the relay sends would be handed back, and sent again, until
            the directory forgets.
        key: of the hashes of erased addresses.
    """

    directory: Directory
    place: str = SHARED
    key: Key | None = None

    def load(self, connection: Connection, jobs: Sequence[Job], monotonic: float, today: date) -> dict[int, Parcel]:
        """The bundle's parcels by job id; a job without an email has none. `today` is UTC's."""
        found = connection.execute(queries.LOAD, {"job_ids": plain([job.id for job in jobs])}).all()
        rows = [Row(*row[:-2]) for row in found]
        nodes = self._nodes(connection, {row.node for row in rows}, monotonic)
        tenants = self.directory.tenants.get(connection, (row.tenant for row in rows), monotonic)
        ids = (row.campaign_id for row in rows if row.campaign_id is not None)
        campaigns = self.directory.campaigns.get(connection, ids, monotonic)
        suppressed = self._suppressed(connection, rows, found)
        carried = {row.id: _carried(row, campaigns) for row in rows}
        files = self.directory.attachments.get(connection, (key for keys in carried.values() for key in keys))
        of_node = {name: node.limits(today) for name, node in nodes.items()}
        parcels = {}
        for row in rows:
            campaign = campaigns[row.campaign_id] if row.campaign_id is not None else None
            own = campaign.limits if campaign else ()
            limits = (*of_node.get(row.node, ()), *tenants.get(row.tenant, ()), *own)
            why = suppressed.get((row.tenant, row.recipient, row.mail_class))
            own_files = tuple(files.get(key) for key in carried[row.id])
            parcels[row.job_id] = Parcel(row, nodes.get(row.node), campaign, limits, why, own_files)
        return parcels

    def _suppressed(
        self, connection: Connection, rows: Sequence[Row], found: Sequence[Sequence[Any]]
    ) -> Mapping[Wanted, Suppressed]:
        """Whose mail must not go out, and why. Nearly none: only those are asked for that the load could not clear."""
        doubtful = {
            (row.tenant, row.recipient, row.mail_class)
            for row, (*_, listed, erased) in zip(rows, found, strict=True)
            if listed or (erased and self.key) or not is_plain(row.recipient)
        }
        return find(connection, doubtful, self.key)

    def _nodes(self, connection: Connection, names: Iterable[str], monotonic: float) -> dict[str, NodeSpec]:
        nodes = self.directory.nodes.get(connection, names, monotonic)
        strange = {name for name, node in nodes.items() if node.paused or not node.served_by(self.place)}
        if not strange:
            return nodes
        own = {name: node for name, node in nodes.items() if name not in strange}
        return own | self.directory.nodes.read(connection, strange, monotonic)


def _carried(row: Row, campaigns: Mapping[int, Campaign]) -> Sequence[int]:
    """The ids of an email's attachments."""
    own: Sequence[int] = (row.content or {}).get("attachments") or ()
    return own if row.campaign_id is None else campaigns[row.campaign_id].attachments
