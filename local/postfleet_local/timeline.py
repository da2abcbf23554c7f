"""What a run looked like: samples over time, and the summary. Pure values and the arithmetic on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

BARS = "▁▂▃▄▅▆▇█"


@dataclass(frozen=True, slots=True)
class Counts:
    """Emails by what became of them so far. `failed` holds all that ended without being sent, but for unknown ones.

    Attributes:
        oldest_seconds: how long the mail that waits longest has been due; 0 when none waits.
        urgent_wait_seconds: longest wait of the urgent mails that began of late; None when none did.
        campaign_final: mails of campaigns that nothing more will happen to.
    """

    total: int = 0
    sent: int = 0
    deferred: int = 0
    failed: int = 0
    unknown: int = 0
    oldest_seconds: float = 0.0
    urgent_wait_seconds: float | None = None
    campaign_final: int = 0

    @property
    def final(self) -> int:
        """Emails that nothing more will happen to."""
        return self.sent + self.failed + self.unknown


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the fleet, `at` seconds after the start."""

    at: float
    backlog: int
    desired: int
    ready: int
    counts: Counts
    emails_per_second: float = 0.0


@dataclass(frozen=True, slots=True)
class Second:
    """One second of the ledger, `at` seconds after the start: what began, what was sent.

    Waits are from due to begun, in seconds; None in a second in which no such mail began.
    """

    at: int
    sent: int = 0
    wait_p50: float | None = None
    wait_p99: float | None = None
    urgent_wait: float | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A pool's number of workers changed, `at` seconds after the start."""

    at: float
    pool: str
    before: int
    after: int
    why: str


@dataclass(frozen=True, slots=True)
class Waits:
    """Percentiles of the time from due to begun, in seconds."""

    p50: float = 0.0
    p99: float = 0.0


@dataclass(frozen=True, slots=True)
class Summary:
    """What a demo ends with; `seconds` is from the first mail due to the last one delivered.

    `lost` is all that was neither delivered nor is unknown; `refused` and `waiting` are the parts of it that the server
    has refused or put off. `replicas_start` is the least number of workers that the pools have.
    """

    emails: int
    delivered: int
    lost: int
    duplicated: int
    unknown: int
    seconds: float
    waits: Waits
    priority_waits: Waits
    replicas_peak: int
    replicas_end: int
    replicas_start: int = 0
    refused: int = 0
    waiting: int = 0

    @property
    def emails_per_minute(self) -> float:
        """Delivered mails a minute over the whole run."""
        return self.delivered / self.seconds * 60 if self.seconds > 0 else 0.0

    @property
    def good(self) -> bool:
        """Nothing lost, nothing sent twice."""
        return self.lost == 0 and self.duplicated == 0

    @property
    def astray(self) -> int:
        """Lost in the strict sense: neither refused by the server nor waiting for it."""
        return self.lost - self.refused - self.waiting

    def as_json(self) -> dict[str, Any]:
        """The object that `demo --json` prints."""
        return {
            "emails": self.emails,
            "delivered": self.delivered,
            "lost": self.lost,
            "duplicated": self.duplicated,
            "unknown": self.unknown,
            "seconds": round(self.seconds, 3),
            "emails_per_minute": round(self.emails_per_minute, 1),
            "wait_p50_seconds": round(self.waits.p50, 3),
            "wait_p99_seconds": round(self.waits.p99, 3),
            "priority_wait_p50_seconds": round(self.priority_waits.p50, 3),
            "priority_wait_p99_seconds": round(self.priority_waits.p99, 3),
            "replicas_peak": self.replicas_peak,
            "replicas_end": self.replicas_end,
        }


@dataclass(frozen=True, slots=True)
class Run:
    """Everything that the report is drawn from."""

    summary: Summary
    samples: tuple[Sample, ...] = ()
    seconds: tuple[Second, ...] = ()
    changes: tuple[Change, ...] = ()
    facts: tuple[tuple[str, str], ...] = ()
    bad: tuple[str, ...] = ()
    """The first few mails that were lost or sent twice, a line each."""
    server: str = ""
    """The user's SMTP server; empty when the mail went to the sink."""


def sparkline(values: Sequence[float], width: int) -> str:
    """The last values as a row of bars, `width` characters at most, scaled to the largest."""
    if width <= 0:
        return ""
    step = max(1, -(-len(values) // width))
    grouped = [max(values[i : i + step]) for i in range(0, len(values), step)]
    top = max(grouped, default=0.0)
    if top <= 0:
        return BARS[0] * len(grouped)
    return "".join(BARS[min(len(BARS) - 1, int(value / top * (len(BARS) - 1) + 0.5))] for value in grouped)
