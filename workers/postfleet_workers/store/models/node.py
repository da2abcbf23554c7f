"""Sending nodes, as the workers see them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import func, text
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
