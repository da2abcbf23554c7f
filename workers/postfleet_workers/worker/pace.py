"""Measured seconds per job of a route, shared through Redis: what one takes of a thread, and how long it takes.

The relay sizes bundles by the first. The second is longer where a thread works on several at once; so long a job holds
its place under a limit of sessions.
"""

from __future__ import annotations

import threading
from typing import Any

import redis

from postfleet_workers import clock
from postfleet_workers.jobs import Job, Outcome
from postfleet_workers.outcomes import put_back
from postfleet_workers.pipe import pipe_errors

KEY = "postfleet:pace"
HELD_KEY = "postfleet:pace:held"
WEIGHT = 0.2  # of the newest job in the moving average
REPORT_SECONDS = 0.5


class Paces:
    """Moving averages of this process, reported at most twice a second."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._means: dict[str, float] = {}
        self._held: dict[str, float] = {}
        self._changed: set[str] = set()
        self._reported = float("-inf")

    def note(self, job: Job, outcome: Outcome, of_thread: float, held: float) -> None:
        """What a job took, in seconds; one that was put back says nothing."""
        if put_back(outcome):
            return
        field = f"{job.type}|{job.route}"
        with self._lock:
            for means, seconds in ((self._means, of_thread), (self._held, held)):
                mean = means.get(field)
                means[field] = seconds if mean is None else mean + WEIGHT * (seconds - mean)
            self._changed.add(field)

    def report(self) -> None:
        """Write what changed, if it is time.

        Raises:
            PipeUnavailable: Redis does not answer; the next report carries it.
        """
        with self._lock:
            now = clock.monotonic()
            if now - self._reported < REPORT_SECONDS or not self._changed:
                return
            self._reported = now
            changed: list[dict[Any, Any]] = [
                {field: f"{means[field]:.6f}" for field in self._changed} for means in (self._means, self._held)
            ]
            self._changed.clear()
        with pipe_errors():
            pipe = self._client.pipeline(transaction=False)
            pipe.hset(KEY, mapping=changed[0])
            pipe.hset(HELD_KEY, mapping=changed[1])
            pipe.execute()
