"""Measured seconds per job of a route, shared through Redis: the relay sizes bundles by it."""

from __future__ import annotations

import threading
from typing import Any

import redis

from postfleet_workers import clock
from postfleet_workers.jobs import Job, Outcome
from postfleet_workers.outcomes import put_back
from postfleet_workers.pipe import pipe_errors

KEY = "postfleet:pace"
WEIGHT = 0.2  # of the newest job in the moving average
REPORT_SECONDS = 0.5


class Paces:
    """Moving averages of this process, reported at most twice a second."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._means: dict[str, float] = {}
        self._changed: set[str] = set()
        self._reported = float("-inf")

    def note(self, job: Job, seconds: float, outcome: Outcome) -> None:
        """A job took so long; one that was put back says nothing."""
        if put_back(outcome):
            return
        field = f"{job.type}|{job.route}"
        with self._lock:
            mean = self._means.get(field)
            self._means[field] = seconds if mean is None else mean + WEIGHT * (seconds - mean)
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
            changed: dict[Any, Any] = {field: f"{self._means[field]:.6f}" for field in self._changed}
            self._changed.clear()
        with pipe_errors():
            self._client.hset(KEY, mapping=changed)
