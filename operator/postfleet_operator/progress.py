"""What workers get done, from their heartbeats in `workers`: one query for all pools, differences to the last look.

It moves slowly and is no signal: while PostgreSQL is away nothing new is learned, and what was known holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import psycopg
import structlog

from postfleet_operator.errors import said
from postfleet_operator.rounds import due
from postfleet_operator.scaling.values import Work
from postfleet_operator.stores import Connect
from postfleet_operator.workerset import SHARED

log = structlog.get_logger(__name__)

EVERY_SECONDS = 2.0
RETRY_SECONDS = 10.0

# `lease_until` moves with every heartbeat: its difference is the time between two.
HEARTBEATS = """
SELECT id, pool, node, threads, busy, completed, busy_seconds,
       extract(epoch FROM lease_until)::float8 AS beat, extract(epoch FROM postfleet_now() - started_at)::float8 AS age
FROM workers WHERE stopped_at IS NULL AND lease_until > postfleet_now() AND pool <> ''
"""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker process as it reported last; `seconds` is when, on the database's clock, give or take a constant."""

    key: str
    threads: int
    busy: int
    completed: int
    busy_seconds: float
    seconds: float
    age_seconds: float


class Progress:
    """Remembers every live worker's last heartbeat."""

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._connection: psycopg.Connection[Any] | None = None
        self._beats: dict[str, Beat] = {}
        self._next_at = 0.0

    def look(self, now: float) -> Mapping[str, Work]:
        """What was done since the last look, by worker set key; only what has news. `now` is epoch seconds."""
        if not due(now, self._next_at, RETRY_SECONDS):
            return {}
        self._next_at = now + EVERY_SECONDS
        try:
            beats = self._read()
        except psycopg.Error as error:
            log.warning("heartbeats_not_read", error=said(error), retry_seconds=RETRY_SECONDS)
            self._next_at = now + RETRY_SECONDS
            self.close()
            return {}
        before, self._beats = self._beats, beats
        return differences(before, beats)

    def close(self) -> None:
        """End the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _read(self) -> dict[str, Beat]:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.autocommit = True
        rows = self._connection.execute(HEARTBEATS).fetchall()
        return {worker: Beat(pool if node == SHARED else f"{pool}@{node}", *rest) for worker, pool, node, *rest in rows}


def differences(before: Mapping[str, Beat], now: Mapping[str, Beat]) -> dict[str, Work]:
    """What happened between two looks, by worker set key. Pure.

    A worker seen for the first time counts from its start if it has only just started; else its past is not news.
    """
    pairs: dict[str, list[tuple[Beat, Beat]]] = defaultdict(list)
    for worker, beat in now.items():
        last = before.get(worker)
        if last is None and before and beat.age_seconds < 2 * RETRY_SECONDS:
            last = Beat(beat.key, beat.threads, 0, 0, 0.0, beat.seconds - beat.age_seconds, 0.0)
        if last is not None and beat.seconds > last.seconds:
            pairs[beat.key].append((last, beat))
    return {key: _work(found) for key, found in pairs.items()}


def _work(pairs: list[tuple[Beat, Beat]]) -> Work:
    threads = sum(beat.threads for _, beat in pairs)
    thread_seconds = sum(beat.threads * (beat.seconds - last.seconds) for last, beat in pairs)
    return Work(
        completed=sum(max(beat.completed - last.completed, 0) for last, beat in pairs),
        busy_seconds=sum(max(beat.busy_seconds - last.busy_seconds, 0.0) for last, beat in pairs),
        elapsed_seconds=thread_seconds / threads if threads else 0.0,
        busy_threads=sum(beat.busy for _, beat in pairs),
        threads=threads,
    )
