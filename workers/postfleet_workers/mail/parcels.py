"""A bundle's emails, loaded with one query and made ready to be rendered: what does not differ is prepared once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.jobs import Job
from postfleet_workers.mail import queries
from postfleet_workers.mail.compose import Skeleton, address
from postfleet_workers.mail.directory import Campaign, Directory
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.render import Content
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
class Mail:
    """What goes on the wire."""

    sender: str
    recipient: str
    message: bytes


@dataclass(frozen=True, slots=True)
class Parcel:
    """One email with all that its delivery needs; `node` is None when the node is gone."""

    row: Row
    node: NodeSpec | None
    campaign: Campaign | None
    limits: tuple[Limit, ...]


class Press:
    """Makes mails of parcels; keeps what the mails of one bundle share."""

    def __init__(self) -> None:
        self._prepared: dict[tuple[int, str], tuple[Content, Skeleton]] = {}

    def make(self, parcel: Parcel, node: NodeSpec, now: datetime) -> Mail:
        """Render and compose.

        Raises:
            PermanentError: it cannot be made (RenderFailed, ComposeRefused).
            TemplateInvalid: a template that should not have been accepted.
        """
        row = parcel.row
        content, skeleton = self._of(parcel, node)
        own = row.content or {}
        message_id = skeleton.message_id(row.message_id)
        attributes = row.attributes if own.get("vars") is None else own["vars"]
        rendered = content.render(email=row.recipient, attributes=attributes or {}, message_id=message_id)
        to = address(row.recipient, own.get("to_name") or "", header="To")
        message = skeleton.compose(
            email_id=row.id,
            message_id=message_id,
            to=to,
            subject=rendered.subject,
            text=rendered.text,
            html=rendered.html,
            unsubscribe_url=rendered.unsubscribe_url,
            date=now,
        )
        return Mail(skeleton.sender.mailbox, to.mailbox, message)

    def _of(self, parcel: Parcel, node: NodeSpec) -> tuple[Content, Skeleton]:
        campaign = parcel.campaign
        if campaign is None:
            return _prepare(parcel.row.content or {}, "", node)
        key = (campaign.id, node.domain)
        if key not in self._prepared:
            parts = {
                "subject": campaign.subject, "text": campaign.text, "html": campaign.html,
                "unsubscribe_url": campaign.unsubscribe_url, "sender": campaign.sender, "reply_to": campaign.reply_to,
            }  # fmt: skip
            self._prepared[key] = _prepare(parts, campaign.name, node)
        return self._prepared[key]


def _prepare(parts: Mapping[str, Any], campaign_name: str, node: NodeSpec) -> tuple[Content, Skeleton]:
    sender = parts.get("sender") or f"postmaster@{node.domain}"
    skeleton = Skeleton.prepare(sender, parts.get("reply_to"), node.domain)
    content = Content.prepare(
        subject=parts.get("subject") or "",
        text=parts.get("text") or "",
        html=parts.get("html"),
        unsubscribe_url=parts.get("unsubscribe_url"),
        campaign_name=campaign_name,
        sender_domain=skeleton.sender.domain,
    )
    return content, skeleton


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
