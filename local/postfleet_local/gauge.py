"""What the demo reads in the ledger: counts while it runs, waits and statuses at its end. One statement each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import psycopg

from postfleet_local.tally import bare
from postfleet_local.timeline import Counts, Second, Waits
from postfleet_operator.stores import Connect

COUNTS = """
SELECT count(*), count(*) FILTER (WHERE status = 'sent'), count(*) FILTER (WHERE status = 'deferred'),
       count(*) FILTER (WHERE status IN ('bounced', 'failed', 'suppressed', 'cancelled', 'expired')),
       count(*) FILTER (WHERE status = 'unknown'),
       extract(epoch FROM greatest(postfleet_now() - min(due_at) FILTER (WHERE status = 'queued' AND begun_at IS NULL),
                                   interval '0'))::float,
       extract(epoch FROM max(begun_at - due_at) FILTER (
           WHERE class = 'transactional' AND begun_at > postfleet_now() - interval '5 s'))::float,
       count(*) FILTER (WHERE class = 'campaign' AND status NOT IN ('queued', 'sending', 'deferred'))
FROM emails
"""
STATUSES = "SELECT message_id, status, recipient FROM emails"
WAITS = """
SELECT percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY wait),
       percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY wait) FILTER (WHERE class = 'transactional')
FROM (SELECT class, extract(epoch FROM begun_at - due_at)::float AS wait FROM emails WHERE begun_at IS NOT NULL) w
"""
SPAN = """
SELECT extract(epoch FROM min(due_at))::float,
       extract(epoch FROM max(finished_at) FILTER (WHERE status = 'sent'))::float
FROM emails
"""
SECONDS = """
WITH begun AS (
    SELECT floor(extract(epoch FROM begun_at) - %(start)s)::int AS at,
           percentile_cont(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY extract(epoch FROM begun_at - due_at)) AS waits,
           max(extract(epoch FROM begun_at - due_at)) FILTER (WHERE class = 'transactional')::float AS urgent
    FROM emails WHERE begun_at IS NOT NULL GROUP BY 1
), sent AS (
    SELECT floor(extract(epoch FROM finished_at) - %(start)s)::int AS at, count(*) AS n
    FROM emails WHERE status = 'sent' GROUP BY 1
)
SELECT at, coalesce(n, 0), waits[1]::float, waits[2]::float, urgent FROM begun FULL JOIN sent USING (at) ORDER BY at
"""
COPIES = """
SELECT e.message_id, count(*) FROM email_attempts a JOIN emails e ON e.id = a.email_id
WHERE a.outcome = 'sent' GROUP BY 1
"""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Every email of the ledger at the end, by bare Message-ID."""

    statuses: dict[str, str]
    recipients: dict[str, str]


class Gauge:
    """Reads the ledger over one connection, opened anew when PostgreSQL was away.

    Its methods raise `psycopg.OperationalError` while PostgreSQL does not answer.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None

    def counts(self) -> Counts:
        """Emails by what became of them so far."""
        (row,) = self._rows(COUNTS)
        total, sent, deferred, failed, unknown, oldest, urgent, campaign_final = row
        return Counts(total, sent, deferred, failed, unknown, oldest or 0.0, urgent, campaign_final)

    def ledger(self) -> Ledger:
        """All emails."""
        rows = [(bare(message_id), status, recipient) for message_id, status, recipient in self._rows(STATUSES)]
        return Ledger({m: status for m, status, _ in rows}, {m: recipient for m, _, recipient in rows})

    def waits(self) -> tuple[Waits, Waits]:
        """Of all emails, and of the transactional ones."""
        every, urgent = self._rows(WAITS)[0]
        return Waits(*(every or ())), Waits(*(urgent or ()))

    def span(self) -> tuple[float, float]:
        """Epoch seconds of the first due and the last sent email; 0 where there is none."""
        first, last = self._rows(SPAN)[0]
        return first or 0.0, last or 0.0

    def seconds(self, start: float) -> tuple[Second, ...]:
        """The run, second by second from `start` (epoch seconds), empty ones included."""
        found = {row[0]: Second(*row) for row in self._rows(SECONDS, {"start": start}) if row[0] >= 0}
        return tuple(found.get(at, Second(at)) for at in range(max(found, default=-1) + 2))

    def copies(self) -> dict[str, int]:
        """How many attempts the ledger has that were accepted, by bare Message-ID."""
        return {bare(message_id): count for message_id, count in self._rows(COPIES)}

    def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _rows(self, sql: str, values: dict[str, float] | None = None) -> Sequence[Any]:
        try:
            if self._connection is None:
                self._connection = self._connect()
                self._connection.autocommit = True
            return self._connection.execute(sql, values).fetchall()
        except psycopg.OperationalError:
            self.close()
            raise
