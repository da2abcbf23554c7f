"""A bundle's emails with all that their delivery needs, loaded with one query."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.jobs import Job
from postfleet_workers.mail import queries
from postfleet_workers.mail.directory import Campaign, Directory
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.placement import SHARED
from postfleet_workers.throttling.limits import Limit


@dataclass(frozen=True, slots=True)
class Row:
    """One row of `emails` with its contact's attributes."""

    id: int
    job_id: int
    tenant: str
    campaign_id: int | None
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
    """One email with all that its delivery needs; `node` is None when the node is gone."""

    row: Row
    node: NodeSpec | None
    campaign: Campaign | None
    limits: tuple[Limit, ...]


def load(
    connection: Connection, jobs: Sequence[Job], directory: Directory, now: float, place: str = SHARED
) -> dict[int, Parcel]:
    """The bundle's parcels by job id; a job without an email has none.

    `now` is monotonic seconds; `place`: whose workers these are. A node that is not theirs may have become so just now,
    so it is looked up again: what the relay sends them by its new road would be handed back, and sent again, until the
    directory forgets.
    """
    found = connection.execute(queries.LOAD, {"job_ids": [job.id for job in jobs]}).mappings()
    rows = [Row(**dict(row)) for row in found]
    nodes = directory.nodes.get(connection, (row.node for row in rows), now)
    if strange := {name for name, node in nodes.items() if not node.served_by(place)}:
        own = {name: node for name, node in nodes.items() if name not in strange}
        nodes = own | directory.nodes.read(connection, strange, now)
    tenants = directory.tenants.get(connection, (row.tenant for row in rows), now)
    ids = (row.campaign_id for row in rows if row.campaign_id is not None)
    campaigns = directory.campaigns.get(connection, ids, now)
    parcels = {}
    for row in rows:
        node = nodes.get(row.node)
        limits = (node.limits if node else ()) + tenants.get(row.tenant, ())
        campaign = campaigns[row.campaign_id] if row.campaign_id is not None else None
        parcels[row.job_id] = Parcel(row, node, campaign, limits)
    return parcels
