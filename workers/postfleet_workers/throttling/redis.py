"""Limits and session leases in Redis, each call one atomic script on the server's clock. Layout: see the scripts.

`acquire.lua` and `session_acquire.lua` document the keys. `clock` replaces the server's time, in seconds, in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import redis

from postfleet_workers.epoch import EPOCH_KEY, SINCE_KEY
from postfleet_workers.lua import script
from postfleet_workers.pipe import pipe_errors
from postfleet_workers.throttling.gcra import SECOND_US, bucket, reckoned_window_us
from postfleet_workers.throttling.limiter import NO_EPOCH, Admission, judge, refuse, remembered_us
from postfleet_workers.throttling.limits import Limit
from postfleet_workers.throttling.sessions import Place

Clock = Callable[[], float]


class RedisLimiter:
    """The `Limiter` of production."""

    def __init__(self, client: redis.Redis, clock: Clock | None = None) -> None:
        self._clock = clock
        self._acquire = script(client, "throttling/acquire")
        self._give_back = script(client, "throttling/give_back")
        self._peek = script(client, "throttling/peek")

    def acquire(self, limits: Sequence[Limit], n: int) -> Admission:
        """See `Limiter`."""
        if not limits or n <= 0:
            return Admission(max(n, 0))
        args: list[int | str] = [n, _now(self._clock)]
        for limit in limits:
            of = bucket(limit.count, limit.window_seconds)
            ttl_ms = (of.depth_us + reckoned_window_us(limit.window_seconds)) // 1000 + 1
            args += [of.burst, of.interval_us, ttl_ms, remembered_us(limit)]
        with pipe_errors():
            granted, bound, retry_us, now = self._acquire(
                keys=[EPOCH_KEY, SINCE_KEY, *(x.key for x in limits)], args=args
            )
        if not retry_us:
            return Admission(granted, at=int(now))
        name = NO_EPOCH if bound < 0 else limits[bound - 1].name
        return Admission(granted, int(retry_us) / SECOND_US, name, (int(retry_us) - int(now)) / SECOND_US, int(now))

    def peek_many(self, asks: Sequence[tuple[Sequence[Limit], int]], horizon_seconds: float) -> list[Admission]:
        """See `Limiter`."""
        keys = list(dict.fromkeys(limit.key for limits, _ in asks for limit in limits))
        if not keys:
            return [Admission(max(n, 0)) for _, n in asks]
        with pipe_errors():
            now, live, since, *tats = self._peek(keys=[EPOCH_KEY, SINCE_KEY, *keys], args=[_now(self._clock)])
        at = int(now)
        if not live:
            return [refuse(limits, n, at) for limits, n in asks]
        stored = {key: int(tat) for key, tat in zip(keys, tats, strict=True) if tat}
        changed = int(since) if since else None
        until = at + round(horizon_seconds * SECOND_US)
        return [judge(limits, n, stored, changed, at, until) for limits, n in asks]

    def give_back(self, limits: Sequence[Limit], n: int, at: int) -> None:
        """See `Limiter`."""
        if not limits or n <= 0:
            return
        args: list[int | str] = [n, at, _now(self._clock)]
        for limit in limits:
            of = bucket(limit.count, limit.window_seconds)
            args += [of.burst, of.interval_us, remembered_us(limit)]
        with pipe_errors():
            self._give_back(keys=[SINCE_KEY, *(limit.key for limit in limits)], args=args)


class RedisSessions:
    """The `SessionLeases` of production."""

    def __init__(self, client: redis.Redis, lease_seconds: float = 30.0, clock: Clock | None = None) -> None:
        self.lease_seconds = lease_seconds
        self._client = client
        self._clock = clock
        self._acquire = script(client, "throttling/session_acquire")
        self._registering = script(client, "throttling/session_registering")
        self._renew = script(client, "throttling/session_renew")

    def acquire(self, places: Sequence[Place], session_id: str) -> bool:
        """See `SessionLeases`."""
        keys = [EPOCH_KEY, SINCE_KEY, *(sessions_key(place) for place, _ in places)]
        args: list[int | str] = [session_id, self._lease_us, _now(self._clock), *(most for _, most in places)]
        with pipe_errors():
            return bool(self._acquire(keys=keys, args=args))

    def registering(self) -> bool:
        """See `SessionLeases`."""
        with pipe_errors():
            return bool(self._registering(keys=[EPOCH_KEY, SINCE_KEY], args=[self._lease_us, _now(self._clock)]))

    def renew(self, sessions: Sequence[tuple[Sequence[str], str]]) -> list[tuple[Sequence[str], str]]:
        """See `SessionLeases`."""
        if not sessions:
            return []
        keys = [EPOCH_KEY, SINCE_KEY, *(sessions_key(place) for places, _ in sessions for place in places)]
        args: list[int | str] = [self._lease_us, _now(self._clock)]
        for places, session_id in sessions:
            args += [session_id, len(places)]
        with pipe_errors():
            lapsed: list[int] = self._renew(keys=keys, args=args)
        return [sessions[position - 1] for position in lapsed]

    def release(self, places: Sequence[str], session_id: str) -> None:
        """See `SessionLeases`."""
        with pipe_errors():
            pipe = self._client.pipeline(transaction=True)
            for place in places:
                pipe.zrem(sessions_key(place), session_id)
            pipe.execute()

    @property
    def _lease_us(self) -> int:
        return round(self.lease_seconds * SECOND_US)


def sessions_key(place: str) -> str:
    """Where the session leases of a place lie."""
    return f"postfleet:sessions:{place}"


def _now(clock: Clock | None) -> int | str:
    return "" if clock is None else round(clock() * SECOND_US)
