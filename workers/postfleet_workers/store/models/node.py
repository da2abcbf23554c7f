"""Sending nodes, as the workers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt


class SendingNode(Base):
    """The mirror of a SendingNode resource, written by the operator; never credentials.

    `spec` is the resource's, camelCase, with defaults filled in; `paused` repeats `spec.paused`, so that SQL need not
    look inside. `owner` is who mirrors it.
    """

    __tablename__ = "sending_nodes"

    name: Mapped[str] = mapped_column(primary_key=True)
    spec: Mapped[dict[str, Any]]
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    generation: Mapped[BigInt] = mapped_column(server_default=text("1"))
    updated_at: Mapped[datetime] = mapped_column(server_default=func.now())
    owner: Mapped[str | None]


class NodeOwner(Base):
    """Who mirrors SendingNode resources into this database, and when each last did."""

    __tablename__ = "node_owners"

    owner: Mapped[str] = mapped_column(primary_key=True)
    seen_at: Mapped[datetime]


class Slowdown(Base):
    """What a site's replies have made a node do there, and until when.

    Attributes:
        value: mails a minute or connections, as the action says; None for `suspend`.
        rule: whose threshold was reached, by which reply.
    """

    __tablename__ = "slowdowns"
    __table_args__ = (CheckConstraint("action IN ('suspend', 'per_minute', 'connections')", "action"),)

    node: Mapped[str] = mapped_column(primary_key=True)
    site: Mapped[str] = mapped_column(primary_key=True)
    action: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int | None]
    rule: Mapped[str]
    reply: Mapped[str]
    until: Mapped[datetime]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
