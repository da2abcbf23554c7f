"""Emails as people look at them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection

from postfleet_workers.mail import queries
from postfleet_workers.mail.outcome import Status


def emails(
    connection: Connection,
    *,
    status: Status | None = None,
    campaign: str | None = None,
    tenant: str | None = None,
    limit: int = 100,
) -> Sequence[dict[str, Any]]:
    """Emails, newest first. `sending` is an email whose job runs now; it is stored as it was before."""
    stored = None if status is None else [status.value]
    if status is Status.SENDING:
        stored = [Status.QUEUED.value, Status.DEFERRED.value]
    parameters = {"status": status, "stored": stored, "campaign": campaign, "tenant": tenant, "limit": limit}
    return [dict(row) for row in connection.execute(queries.LIST, parameters).mappings()]


def email(connection: Connection, email_id: int) -> dict[str, Any] | None:
    """One email with its `attempts`, oldest first."""
    row = connection.execute(queries.SHOW, {"id": email_id}).mappings().one_or_none()
    if row is None:
        return None
    attempts = connection.execute(queries.SHOW_ATTEMPTS, {"id": email_id}).mappings()
    return {**row, "attempts": [dict(attempt) for attempt in attempts]}
