"""Holds: what people have paused."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base


class Hold(Base):
    """A paused queue, or a paused batch of jobs (a campaign). Tenants and nodes carry a flag of their own.

    A row here and not a state of each job: pausing a campaign of a million mails is one INSERT, and bites at once.
    """

    __tablename__ = "holds"
    __table_args__ = (CheckConstraint("kind IN ('queue', 'batch')", "kind"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
