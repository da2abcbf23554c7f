"""What the workers' deliveries tell about each sending node: what it took in the last day, and how it behaves now.

perDay is a rolling limit: it holds for every 86,400 seconds, wherever they begin, so 'today' means the last 24 hours.
A large ledger is not counted at each look but minute by minute, once: what is older than a minute or two is kept, and
the first day is read in pieces, newest first. Until a node's whole day has been read, its number is not known.
"""

from __future__ import annotations

from array import array
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import psycopg

MINUTE_SECONDS = 60
DAY_MINUTES = 1440
# How much may be read at a time: the operator's statements answer within two seconds or fail.
CHUNK_MINUTES = 10
BUDGET_SECONDS = 0.5
LATEST_ATTEMPTS = 2000

NOW = "SELECT extract(epoch FROM postfleet_now())::float8"

ACCEPTED = """
SELECT node, floor(extract(epoch FROM finished_at) / 60)::bigint AS minute, count(*)
FROM email_attempts
WHERE outcome = 'sent' AND node = ANY(%(nodes)s)
  AND finished_at >= to_timestamp(%(since)s) AND finished_at < to_timestamp(%(until)s)
GROUP BY 1, 2
"""

LAST_SENT = """
SELECT asked.node, extract(epoch FROM latest.finished_at)::float8
FROM unnest(%(nodes)s::text[]) AS asked(node)
JOIN LATERAL (SELECT finished_at FROM email_attempts WHERE node = asked.node AND outcome = 'sent'
              ORDER BY finished_at DESC LIMIT 1) AS latest ON true
"""

# The newest failed session of each node, as far as the ledger's latest attempts tell. What failed before a server was
# asked anything says nothing about it: mail that could not be made (`message`), that must not go out (`suppressed`), or
# whose domain takes none (`recipient`).
FAILED_SESSIONS = """
SELECT DISTINCT ON (node) node, phase, reply, extract(epoch FROM finished_at)::float8
FROM (SELECT id, node, phase, outcome, scope, reply, finished_at FROM email_attempts
      ORDER BY id DESC LIMIT %(latest)s) AS latest
WHERE node = ANY(%(nodes)s) AND phase IN ('connect', 'banner', 'ehlo', 'starttls', 'auth')
  AND outcome NOT IN ('sent', 'suppressed') AND (scope IS NULL OR scope NOT IN ('message', 'recipient'))
ORDER BY node, id DESC
"""


@dataclass(frozen=True, slots=True)
class Experience:
    """What workers met at a node; times are epoch seconds on the operator's clock, None: never, as far as is known.

    Attributes:
        sent_at: when it took a mail last.
        failed_at: when a session with it failed last, before any mail was offered.
        phase: how far that session got.
        failure: what went wrong.
    """

    sent_at: float | None = None
    failed_at: float | None = None
    phase: str = ""
    failure: str = ""


@dataclass(slots=True)
class _Day:
    """Mails per minute over the last day, in a ring. `since`: the first minute that has been counted."""

    head: int
    since: int
    counts: array[int] = field(default_factory=lambda: array("q", bytes(8 * DAY_MINUTES)))

    def advance(self, minute: int) -> None:
        for new in range(max(self.head, minute - DAY_MINUTES) + 1, minute + 1):
            self.counts[new % DAY_MINUTES] = 0
        self.head = max(self.head, minute)

    def put(self, minute: int, count: int) -> None:
        if self.head - DAY_MINUTES < minute <= self.head:
            self.counts[minute % DAY_MINUTES] = count

    @property
    def complete(self) -> bool:
        return self.since <= self.head - DAY_MINUTES + 1


class Deliveries:
    """Reads and remembers.

    Args:
        clock: seconds, to keep within the time that a look may take.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._days: dict[str, _Day] = {}
        self._experiences: dict[str, Experience] = {}

    def look(self, connection: psycopg.Connection[Any], nodes: Collection[str], now: float) -> None:
        """Take in what is new; `now` is epoch seconds on the operator's clock.

        Raises:
            psycopg.Error: PostgreSQL does not answer; what was known stays.
        """
        names = list(nodes)
        ends_at = self._clock() + BUDGET_SECONDS
        (database_now,) = connection.execute(NOW).fetchone() or (now,)
        self._experiences = _experiences(connection, names, now - database_now)
        minute = int(database_now) // MINUTE_SECONDS
        self._days = {
            name: day
            for name in names
            if (day := self._days.get(name)) is not None and minute - day.head <= CHUNK_MINUTES
        }
        self._count_on(connection, names, minute)
        while self._clock() < ends_at and self._count_back(connection):
            pass

    def accepted(self, node: str) -> int | None:
        """Mails that the node took in the last 24 hours; None while not all of them have been counted."""
        day = self._days.get(node)
        return sum(day.counts) if day is not None and day.complete else None

    def experience(self, node: str) -> Experience:
        """How it went lately."""
        return self._experiences.get(node, Experience())

    def _count_on(self, connection: psycopg.Connection[Any], names: list[str], minute: int) -> None:
        """From the minute before the last look on: a transaction may be seen some time after it began."""
        since = min((day.head for day in self._days.values()), default=minute) - 1
        found = _accepted(connection, names, since, minute + 1)
        for name in names:
            day = self._days.setdefault(name, _Day(minute, max(since, minute - 1)))
            day.advance(minute)
            for at, count in found.get(name, {}).items():
                if at >= day.since:
                    day.put(at, count)

    def _count_back(self, connection: psycopg.Connection[Any]) -> bool:
        """One more piece of the past, of the nodes that lack the most recent one; False when none lacks any."""
        lacking = {name: day for name, day in self._days.items() if not day.complete}
        if not lacking:
            return False
        until = max(day.since for day in lacking.values())
        names = [name for name, day in lacking.items() if day.since == until]
        found = _accepted(connection, names, until - CHUNK_MINUTES, until)
        for name in names:
            for at, count in found.get(name, {}).items():
                self._days[name].put(at, count)
            self._days[name].since = until - CHUNK_MINUTES
        return True


def _accepted(
    connection: psycopg.Connection[Any], names: list[str], since: int, until: int
) -> dict[str, dict[int, int]]:
    span = {"nodes": names, "since": since * MINUTE_SECONDS, "until": until * MINUTE_SECONDS}
    found: dict[str, dict[int, int]] = defaultdict(dict)
    for node, minute, count in connection.execute(ACCEPTED, span):
        found[node][minute] = count
    return found


def _experiences(connection: psycopg.Connection[Any], names: list[str], behind: float) -> dict[str, Experience]:
    """`behind`: what to add to the database's time to have ours."""
    sent = {node: at + behind for node, at in connection.execute(LAST_SENT, {"nodes": names})}
    failed = {
        node: (at + behind, phase, reply or "")
        for node, phase, reply, at in connection.execute(FAILED_SESSIONS, {"nodes": names, "latest": LATEST_ATTEMPTS})
    }
    return {node: Experience(sent.get(node), *failed.get(node, (None, "", ""))) for node in sent.keys() | failed.keys()}
