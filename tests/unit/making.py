"""Values for unit tests, with what a test does not care about filled in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from postfleet_workers.jobs import Job

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def make_job(**changes: Any) -> Job:
    """A claimed job on its first attempt."""
    values: dict[str, Any] = {
        "id": 1, "type": "probe", "queue": "campaign-standard", "tenant": "acme", "route": "", "args": {}, "attempt": 1,
        "max_attempts": 3, "snoozes": 0, "publication": 1, "run_at": NOON, "expires_at": None, "claimed_at": NOON,
        "claim": "c", "claim_epoch": "e", "strikes": 0,
    }  # fmt: skip
    return Job(**{**values, **changes})
