"""Tenants: whose jobs they are, and how much of the fleet each may use."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base


class Tenant(Base):
    """A tenant. `per_minute` and `per_day` limit its emails; None means no limit.

    Jobs name a tenant without a foreign key: one that has no row has weight 1 and no limit.
    """

    __tablename__ = "tenants"
    __table_args__ = (
        CheckConstraint("weight BETWEEN 1 AND 1000", "weight"),
        CheckConstraint("per_minute > 0", "per_minute"),
        CheckConstraint("per_day > 0", "per_day"),
    )

    name: Mapped[str] = mapped_column(primary_key=True)
    weight: Mapped[int] = mapped_column(server_default=text("1"))
    per_minute: Mapped[int | None]
    per_day: Mapped[int | None]
    paused: Mapped[bool] = mapped_column(server_default=text("false"))
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
