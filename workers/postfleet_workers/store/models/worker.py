"""Worker processes and their leases."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt


class Worker(Base):
    """A worker process; alive while `lease_until` is ahead of the database's clock and `stopped_at` is empty.

    Attributes:
        id: `<replica>-<uuid>`, also its Dramatiq broker id.
        node: the sending node it serves, or `shared`.
        busy: threads inside a bundle at the last renewal.
        completed: jobs settled since it started, those that were put back left out.
        busy_seconds: thread-seconds of finished bundles, without those jobs; with `completed` the pace that scaling
            learns from.
    """

    __tablename__ = "workers"
    __table_args__ = (Index("ix_workers_live", "lease_until", postgresql_where=text("stopped_at IS NULL")),)

    id: Mapped[str] = mapped_column(primary_key=True)
    replica: Mapped[str]
    pool: Mapped[str] = mapped_column(server_default="")
    node: Mapped[str] = mapped_column(server_default="shared")
    queues: Mapped[list[str]]
    threads: Mapped[int]
    busy: Mapped[int] = mapped_column(server_default=text("0"))
    completed: Mapped[BigInt] = mapped_column(server_default=text("0"))
    busy_seconds: Mapped[float] = mapped_column(server_default=text("0"))
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    lease_until: Mapped[datetime]
    # A goodbye frees what it held at once; without one the lease must lapse first.
    stopped_at: Mapped[datetime | None]
