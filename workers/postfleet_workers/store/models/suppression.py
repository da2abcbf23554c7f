"""Who gets no mail."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, Identity, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt


class Suppression(Base):
    """An address that gets no mail from a tenant, or from anyone (tenant '').

    Attributes:
        address: as compared, in lower case; None once it was erased.
        hash: keyed hash of the address; what is left of an erased one.
        email_id: the mail whose bounce, complaint or link it comes from.
    """

    __tablename__ = "suppressions"
    __table_args__ = (
        CheckConstraint("reason IN ('hard_bounce', 'complaint', 'unsubscribe', 'manual', 'erasure')", "reason"),
        CheckConstraint("address IS NOT NULL OR hash IS NOT NULL", "known"),
        UniqueConstraint("tenant", "address", name="uq_suppressions_address"),
        UniqueConstraint("tenant", "hash", name="uq_suppressions_hash"),
    )

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    tenant: Mapped[str] = mapped_column(server_default="")
    address: Mapped[str | None] = mapped_column(index=True)
    hash: Mapped[str | None] = mapped_column(index=True)
    reason: Mapped[str]
    detail: Mapped[str | None]
    email_id: Mapped[BigInt | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
