"""Campaigns."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ARRAY, BigInteger, CheckConstraint, ForeignKey, Identity, UniqueConstraint, func
from sqlalchemy import text as sql
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt


class Campaign(Base):
    """One message to every contact of a list. Its jobs are the batch `campaign:<id>`.

    Attributes:
        sender: the From header.
        nodes: sending nodes that its mail is spread over.
        subject: a Liquid template, as are `text`, `html` and `unsubscribe_url`.
        per_minute: a limit of its own, over all its nodes.
        one_click: its mails carry a link to our own endpoint for unsubscribing (RFC 8058).
        attachments: ids of what every mail carries.
        expanded_to: the last contact that has its email; where an expansion that was cut short goes on.
    """

    __tablename__ = "campaigns"
    __table_args__ = (
        UniqueConstraint("tenant", "name"),
        CheckConstraint("state IN ('draft', 'expanding', 'running', 'paused', 'completed', 'cancelled')", "state"),
        CheckConstraint("per_minute > 0", "per_minute"),
    )

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    tenant: Mapped[str] = mapped_column(ForeignKey("tenants.name"))
    name: Mapped[str]
    list_id: Mapped[BigInt] = mapped_column(ForeignKey("contact_lists.id"))
    sender: Mapped[str]
    reply_to: Mapped[str | None]
    nodes: Mapped[list[str]]
    queue: Mapped[str] = mapped_column(server_default="campaign-standard")
    subject: Mapped[str]
    text: Mapped[str]
    html: Mapped[str | None]
    unsubscribe_url: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default="draft")
    expanded_to: Mapped[BigInt] = mapped_column(server_default=sql("0"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    started_at: Mapped[datetime | None]
    per_minute: Mapped[int | None]
    track_opens: Mapped[bool] = mapped_column(server_default=sql("false"))
    track_clicks: Mapped[bool] = mapped_column(server_default=sql("false"))
    one_click: Mapped[bool] = mapped_column(server_default=sql("false"))
    attachments: Mapped[list[int]] = mapped_column(ARRAY(BigInteger), server_default="{}")


class Attachment(Base):
    """A file that mails carry; `body` is what it holds, kept once per tenant and name.

    Attributes:
        created_at: when it was last given, to a mail or a campaign; what `mail.retention` counts from.
    """

    __tablename__ = "attachments"
    __table_args__ = (UniqueConstraint("tenant", "sha256", "name"),)

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    tenant: Mapped[str]
    name: Mapped[str]
    content_type: Mapped[str]
    sha256: Mapped[str]
    body: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
