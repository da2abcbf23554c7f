"""Jobs, the ledger's heart: one row per job, and one per attempt that went wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.states import State
from postfleet_workers.store.models.base import Base, BigInt, SmallInt

STATES = ", ".join(f"'{state}'" for state in State)


class Job(Base):
    """A job; see `states` for how `state` moves and `jobs.NewJob` for what the caller gives.

    Attributes:
        batch: what is paused, cancelled and counted together: `campaign:7`; '' for a job on its own.
        route: jobs of one route share bundles and limits; for mail the sending node; '' for what has no limit.
        priority: lower runs first within its group.
        attempt: executions so far that count; snoozes, hand-backs and rescues give theirs back.
        strikes: workers that died while this job ran.
        publication: counts offers; a message or an outcome of an earlier one means nothing.
        published_until: on offer to one message until then; a lease, not a fact.
        claimed_by: the worker (`workers.id`) that runs it.
        claim: that worker's one-time name for the bundle, the journal's key; what outcomes are fenced by.
        claim_epoch: Redis' epoch at the claim; in another one the journal may have lost entries.
        cancel_requested: a running job is not torn away; it is cancelled instead of being run again.
    """

    __tablename__ = "jobs"
    # Partial indexes: most rows are final and none of the loops below ever looks at them.
    __table_args__ = (
        CheckConstraint(f"state IN ({STATES})", "state"),
        CheckConstraint("max_attempts > 0", "max_attempts"),
        # What the relay walks: groups (tenant, batch, route) of a queue, then the most urgent rows of one, which it
        # counts from the index alone.
        Index(
            "ix_jobs_available", "queue", "tenant", "batch", "route", "priority", "run_at", "id",
            postgresql_include=["published_until", "strikes", "expires_at"],
            postgresql_where=text("state = 'available'"),
        ),
        # What falls due next.
        Index("ix_jobs_waiting", "queue", "run_at", postgresql_where=text("state IN ('scheduled', 'retryable')")),
        # What to publish again once Redis has forgotten it.
        Index(
            "ix_jobs_published", "queue", "published_until",
            postgresql_where=text("state = 'available' AND published_until IS NOT NULL"),
        ),
        # Whose worker is gone.
        Index("ix_jobs_executing", "claimed_by", postgresql_where=text("state = 'executing'")),
        # At most one of a queue may be in the pipe.
        Index(
            "ix_jobs_suspects", "queue",
            postgresql_where=text("strikes >= 2 AND state IN ('available', 'executing')"),
        ),
        Index(
            "ix_jobs_expiring", "expires_at",
            postgresql_where=text("expires_at IS NOT NULL AND state IN ('scheduled', 'available', 'retryable')"),
        ),
        # What is left of a campaign that is cancelled; what executes has its own index.
        Index(
            "ix_jobs_batch", "batch", "id",
            postgresql_where=text("batch <> '' AND state IN ('scheduled', 'available', 'retryable')"),
        ),
        # The dead letters that people list.
        Index("ix_jobs_discarded", "queue", "id", postgresql_where=text("state = 'discarded'")),
        # A completed job keeps its key, so that a caller who tries again does not run it twice; one that was
        # cancelled or discarded frees it.
        Index(
            "uq_jobs_unique_key", "type", "unique_key", unique=True,
            postgresql_where=text("unique_key IS NOT NULL AND state NOT IN ('cancelled', 'discarded')"),
        ),
    )  # fmt: skip

    # By default, not always: `enqueue_many` draws the numbers itself to return them in the caller's order.
    id: Mapped[BigInt] = mapped_column(Identity(always=False), primary_key=True)
    type: Mapped[str]
    queue: Mapped[str]
    tenant: Mapped[str] = mapped_column(server_default="default")
    # '' and not NULL: the index that the relay walks compares whole groups as rows, which NULL would break.
    batch: Mapped[str] = mapped_column(server_default="")
    route: Mapped[str] = mapped_column(server_default="")
    priority: Mapped[SmallInt] = mapped_column(server_default=text("0"))
    args: Mapped[dict[str, Any]] = mapped_column(server_default="{}")
    unique_key: Mapped[str | None]
    state: Mapped[str] = mapped_column(server_default=State.AVAILABLE)
    attempt: Mapped[SmallInt] = mapped_column(server_default=text("0"))
    max_attempts: Mapped[SmallInt] = mapped_column(server_default=text("3"))
    snoozes: Mapped[int] = mapped_column(server_default=text("0"))
    strikes: Mapped[SmallInt] = mapped_column(server_default=text("0"))
    run_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    publication: Mapped[int] = mapped_column(server_default=text("0"))
    published_until: Mapped[datetime | None]
    # No foreign key: a worker's row is deleted a day after its end, and a claim must not wait for it.
    claimed_by: Mapped[str | None]
    claim: Mapped[str | None]
    claim_epoch: Mapped[str | None]
    claimed_at: Mapped[datetime | None]
    cancel_requested: Mapped[bool] = mapped_column(server_default=text("false"))
    last_error: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class JobAttempt(Base):
    """An attempt that failed, or one whose outcome came too late (`fenced`) and changed nothing.

    A success writes no row: at ten thousand jobs a minute that would double the writes to say what `state` says.
    """

    __tablename__ = "job_attempts"

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    job_id: Mapped[BigInt] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), index=True)
    attempt: Mapped[SmallInt]
    publication: Mapped[int]
    worker: Mapped[str]
    outcome: Mapped[str]
    error: Mapped[str | None]
    fenced: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime] = mapped_column(server_default=func.now())
