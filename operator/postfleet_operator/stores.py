"""Connections of the operator: Redis and PostgreSQL, with short timeouts, because a loop waits for the answers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import redis

from postfleet_operator.errors import InputError

TIMEOUT_SECONDS = 2

Connect = Callable[[], psycopg.Connection[Any]]


def redis_client(url: str) -> redis.Redis:
    """A client that answers or fails within `TIMEOUT_SECONDS`; connects when first used.

    Raises:
        InputError: the URL is no Redis URL.
    """
    try:
        return redis.Redis.from_url(
            url,
            decode_responses=True,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            health_check_interval=30,
        )
    except ValueError as error:
        raise InputError(f"POSTFLEET_REDIS_URL: {error}") from None


def database(url: str) -> Connect:
    """A function that opens a connection; every statement on it answers or fails within `TIMEOUT_SECONDS`."""

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(
            url,
            connect_timeout=TIMEOUT_SECONDS,
            application_name="postfleet-operator",
            keepalives_idle=5,
            tcp_user_timeout=TIMEOUT_SECONDS * 1000,  # a host that is gone says nothing at all
            options=f"-c statement_timeout={TIMEOUT_SECONDS * 1000} -c timezone=UTC",
        )

    return connect
