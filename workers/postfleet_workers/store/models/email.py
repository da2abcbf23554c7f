"""Emails, and each attempt to deliver one."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from postfleet_workers.store.models.base import Base, BigInt, SmallInt


class Email(Base):
    """One message to one recipient.

    Attributes:
        job_id: the job that sends it.
        step: number within a sequence; 0 for a campaign of one mail.
        message_id: fixed at creation, so that a second delivery can be told for what it is.
        content: sender, templates and variables of mail without a campaign.
        deferrals: 4xx answers so far; decides the next wait, and is no attempt of the job.
        due_at: when it was to go out; waits are measured from here.
        begun_at: when its delivery first began, since it was last sent again.
        reply: the server's last answer.
        on_unknown: what happens when nobody knows whether it was accepted: `hold` it, or `resend` it once.
        resends: how often it was sent again for that.
    """

    __tablename__ = "emails"
    __table_args__ = (
        CheckConstraint("class IN ('transactional', 'campaign', 'warmup')", "class"),
        CheckConstraint(
            "status IN ('queued', 'sending', 'deferred', 'sent', 'bounced', 'failed', 'unknown', 'suppressed',"
            " 'cancelled', 'expired')",
            "status",
        ),
        CheckConstraint("on_unknown IN ('hold', 'resend')", "on_unknown"),
        UniqueConstraint("job_id"),
        # A contact gets each step of a campaign once, however often its expansion runs.
        UniqueConstraint("campaign_id", "contact_id", "step", name="uq_emails_step"),
        # What people ask for: the mails that did not simply go out. Of block ranges, as a btree over what every mail
        # changes once would make each of them take a new place in every index; and room for that one change.
        Index(
            "ix_emails_status", "status",
            postgresql_using="brin",
            postgresql_ops={"status": "text_bloom_ops (n_distinct_per_range = 16)"},
            postgresql_with={"pages_per_range": 32},
        ),
        {"postgresql_with": {"fillfactor": 45}},
    )  # fmt: skip

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    # No foreign keys to the job and the contact: the record of what was sent outlives both.
    job_id: Mapped[BigInt]
    tenant: Mapped[str]
    campaign_id: Mapped[BigInt | None] = mapped_column(ForeignKey("campaigns.id"))
    contact_id: Mapped[BigInt | None]
    step: Mapped[SmallInt] = mapped_column(server_default=text("0"))
    class_: Mapped[str] = mapped_column("class")
    node: Mapped[str]
    recipient: Mapped[str] = mapped_column(index=True)
    message_id: Mapped[str]
    content: Mapped[dict[str, Any] | None]
    status: Mapped[str] = mapped_column(server_default="queued")
    deferrals: Mapped[int] = mapped_column(server_default=text("0"))
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    begun_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    reply: Mapped[str | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    on_unknown: Mapped[str] = mapped_column(server_default="hold")
    resends: Mapped[SmallInt] = mapped_column(server_default=text("0"))


class EmailAttempt(Base):
    """One attempt to deliver an email, with what the receiving server said.

    Attributes:
        phase: how far the SMTP dialogue got.
        code: the reply's three digits.
        enhanced: the enhanced status code (RFC 3463).
        scope: what a refusal is about; see `mail.replies.rules.Scope`.
        fenced: its worker no longer owned the job; kept, as the mail may have gone out.
        site: the receiving side; None where it was not looked up.
        host: the server that it was tried at.
        rule: the classifier's rule that the reply fell under.
    """

    __tablename__ = "email_attempts"
    __table_args__ = (
        # What a node has had accepted lately: its limits are rebuilt from this when Redis is lost.
        Index("ix_email_attempts_node", "node", "finished_at", postgresql_where=text("outcome = 'sent'")),
        # How often a rule has met a site's replies lately: what slows a node down there.
        Index(
            "ix_email_attempts_rule", "node", "site", "rule", "finished_at", postgresql_where=text("rule IS NOT NULL")
        ),
    )

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    # No foreign key: nothing deletes emails, and checking it would lock each email again for every attempt.
    email_id: Mapped[BigInt] = mapped_column(index=True)
    publication: Mapped[int]
    worker: Mapped[str]
    node: Mapped[str]
    phase: Mapped[str]
    outcome: Mapped[str]
    code: Mapped[SmallInt | None]
    enhanced: Mapped[str | None]
    scope: Mapped[str | None]
    reply: Mapped[str | None]
    fenced: Mapped[bool] = mapped_column(server_default=text("false"))
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime] = mapped_column(server_default=func.now())
    site: Mapped[str | None]
    host: Mapped[str | None]
    rule: Mapped[str | None]


class EmailEvent(Base):
    """What became of a mail after it was sent.

    Attributes:
        machine: done by a scanner or a prefetching proxy, not by a person.
        url: what was clicked.
        unique_key: makes a report that comes twice count once.
    """

    __tablename__ = "email_events"
    __table_args__ = (
        CheckConstraint("kind IN ('open', 'click', 'unsubscribe', 'bounce', 'delay', 'complaint')", "kind"),
        UniqueConstraint("unique_key"),
    )

    id: Mapped[BigInt] = mapped_column(Identity(always=True), primary_key=True)
    email_id: Mapped[BigInt] = mapped_column(ForeignKey("emails.id", ondelete="CASCADE"), index=True)
    kind: Mapped[str]
    machine: Mapped[bool] = mapped_column(server_default=text("false"))
    url: Mapped[str | None]
    detail: Mapped[str | None]
    unique_key: Mapped[str]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
