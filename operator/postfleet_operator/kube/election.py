"""Who leads: the rules of a Lease, as client-go's leader election has them. Pure.

A candidate never compares its clock with another's: it takes a Lease as lapsed when it has *seen* no change of it for
the whole duration. A leader counts its lead from the moment in which it *sent* the renewal that succeeded, and stops
counting on it a while before others may take over. Both are monotonic seconds, which go on while a process is stopped.

Source: k8s.io/client-go/tools/leaderelection/leaderelection.go.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

DURATION_SECONDS = 10.0
RENEW_SECONDS = 2.0
# A leader's pause after a renewal that failed, and how long a call may take: one that hangs must not cost the lead.
RETRY_SECONDS = 0.5
CALL_SECONDS = 2.5
# A leader that could not renew for this long stops writing, well before anyone may take over: what is left covers the
# longest call that may be under way by then only in part, which is why `DURATION_SECONDS` counts from what others see.
DEADLINE_SECONDS = 6.0


@dataclass(frozen=True, slots=True)
class Record:
    """The `spec` of a Lease as far as the election goes. An empty holder has let go."""

    holder: str = ""
    duration_seconds: float = DURATION_SECONDS
    acquired: str = ""
    renewed: str = ""
    transitions: int = 0


@dataclass(frozen=True, slots=True)
class Seen:
    """A record, and since when it has not changed; monotonic seconds."""

    record: Record
    since: float


def read(spec: Mapping[str, Any]) -> Record:
    """The record of a Lease's spec."""
    return Record(
        holder=str(spec.get("holderIdentity") or ""),
        duration_seconds=float(spec.get("leaseDurationSeconds") or DURATION_SECONDS),
        acquired=str(spec.get("acquireTime") or ""),
        renewed=str(spec.get("renewTime") or ""),
        transitions=int(spec.get("leaseTransitions") or 0),
    )


def write(record: Record) -> dict[str, Any]:
    """The spec of a Lease."""
    return {
        "holderIdentity": record.holder,
        "leaseDurationSeconds": int(record.duration_seconds),
        "acquireTime": record.acquired or None,
        "renewTime": record.renewed or None,
        "leaseTransitions": record.transitions,
    }


def observe(before: Seen | None, record: Record, now: float) -> Seen:
    """Take in a record as just read."""
    return before if before is not None and before.record == record else Seen(record, now)


def free(seen: Seen | None, identity: str, now: float) -> bool:
    """Whether `identity` may take or keep the lead."""
    if seen is None or seen.record.holder in ("", identity):
        return True
    return now - seen.since >= seen.record.duration_seconds


def taken(seen: Seen | None, identity: str, wall: float) -> Record:
    """The record by which `identity` takes or renews the lead; `wall` is epoch seconds."""
    at = stamp(wall)
    if seen is None:
        return Record(identity, DURATION_SECONDS, at, at, 0)
    if seen.record.holder == identity:
        return replace(seen.record, duration_seconds=DURATION_SECONDS, renewed=at)
    return Record(identity, DURATION_SECONDS, at, at, seen.record.transitions + 1)


def given_up(record: Record, wall: float) -> Record:
    """The record by which a leader lets go at once."""
    return replace(record, holder="", duration_seconds=1.0, renewed=stamp(wall))


def stamp(wall: float) -> str:
    """Epoch seconds as a Lease writes times (RFC 3339 with microseconds)."""
    return datetime.fromtimestamp(wall, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
