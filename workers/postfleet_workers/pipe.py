"""Connections to Redis: one client per process, errors in the package's own words, and never a silent second try.

redis-py repeats a call that timed out, up to ten times (facts: a stalled send was listed twice). Hardly anything we
ask of Redis may run twice, so the clients made here try once and say PipeUnavailable; the callers know what is safe.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import NoBackoff
from redis.exceptions import (
    ClusterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.retry import Retry

from postfleet_workers.errors import InputError, PipeUnavailable
from postfleet_workers.starting import until_it_answers

SOCKET_TIMEOUT_SECONDS = 5.0
HEALTH_CHECK_SECONDS = 15


def connect(redis_url: str, *, decode: bool = True) -> redis.Redis:
    """A client that waits at most 5 s for a reply and never repeats a call. Connects when first used.

    Args:
        redis_url: `redis://host:port/db`.
        decode: whether replies are text; Dramatiq's own client wants bytes.

    Raises:
        InputError: the URL is no Redis URL.
    """
    try:
        return redis.Redis.from_url(
            redis_url,
            decode_responses=decode,
            socket_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_connect_timeout=SOCKET_TIMEOUT_SECONDS,
            socket_keepalive=True,
            health_check_interval=HEALTH_CHECK_SECONDS,
            retry=Retry(NoBackoff(), 0),
        )
    except ValueError as error:
        raise InputError(f"POSTFLEET_REDIS_URL: {str(error).splitlines()[0]}; give redis://host:port/db") from None


@contextmanager
def pipe_errors() -> Iterator[None]:
    """Turn what redis-py raises when the server does not serve into PipeUnavailable.

    A ResponseError is a mistake of ours (wrong type, bad script) and passes, except for the replies of a server that
    cannot serve now: those have classes of their own, or are about writing.

    Raises:
        PipeUnavailable: Redis is away, still loading, read-only or out of memory.
    """
    try:
        yield
    except RedisError as error:
        if isinstance(error, ResponseError) and not _is_refusal(error):
            raise
        raise PipeUnavailable(f"Redis: {error}") from error


def wait_until_up(client: redis.Redis, wait_seconds: float) -> None:
    """Return once Redis answers; says once that it waits.

    Raises:
        PipeUnavailable: it did not answer within `wait_seconds`.
    """

    def ask() -> None:
        with pipe_errors():
            client.ping()

    until_it_answers("Redis", "POSTFLEET_REDIS_URL", ask, wait_seconds)


def _is_refusal(error: ResponseError) -> bool:
    """Whether the server understood us but cannot do it now; redis-py strips the code where it has a class for it."""
    if isinstance(error, ClusterDownError | OutOfMemoryError | ReadOnlyError | TryAgainError):
        return True
    return str(error).startswith(("BUSY ", "MISCONF ", "NOREPLICAS ", "OOM "))
