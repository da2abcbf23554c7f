"""Two worlds for the same tests: a real Redis, and the in-memory twins. Time moves only when a test says so."""

from __future__ import annotations

import time

import redis

from postfleet_workers import epoch
from postfleet_workers.journal import Journal, MemoryJournal
from postfleet_workers.throttling.memory import MemoryLimiter, MemorySessions
from postfleet_workers.throttling.redis import RedisLimiter, RedisSessions

LEASE_SECONDS = 30.0


class Clock:
    """Epoch seconds in whole microseconds."""

    def __init__(self) -> None:
        self.us = time.time_ns() // 1000

    def __call__(self) -> float:
        return self.us / 1_000_000

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1_000_000)


class RedisWorld:
    """On a Redis of the test's own; it is emptied."""

    def __init__(self, client: redis.Redis) -> None:
        client.flushall()
        self.client = client
        self.clock = Clock()
        self.limiter = RedisLimiter(client, self.clock)
        self.sessions = RedisSessions(client, LEASE_SECONDS, self.clock)
        self.journal = Journal(client)
        self.keep(live_workers=False)

    def current(self) -> str | None:
        return epoch.current(self.client)

    def keep(self, live_workers: bool) -> tuple[str, bool]:
        found, changed = epoch.keep(self.client, live_workers)
        if changed and live_workers:  # by the test's clock
            self.client.set(epoch.SINCE_KEY, f"{self.clock():.6f}")
        return found, changed

    def flush(self) -> None:
        self.client.flushall()

    def restart(self) -> None:
        """As a restart that kept every key: what it kept names another server."""
        _, _, key = (self.client.get(epoch.EPOCH_KEY) or "").partition(":")
        self.client.set(epoch.EPOCH_KEY, f"0123456789abcdef:{key}")

    def lose_journal(self, claim: str) -> None:
        self.client.delete(f"postfleet:journal:{claim}")


class MemoryWorld:
    """In this process."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.memory = epoch.MemoryEpoch(self.clock)
        self.limiter = MemoryLimiter(self.memory)
        self.sessions = MemorySessions(self.memory, LEASE_SECONDS)
        self.journal = MemoryJournal(self.memory)
        self.current = self.memory.current
        self.keep = self.memory.keep
        self.flush = self.memory.flush
        self.restart = self.memory.restart
        self.lose_journal = self.journal.lose


AnyWorld = RedisWorld | MemoryWorld
