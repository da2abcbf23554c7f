"""Connections of the operator: Redis and PostgreSQL, with short timeouts, because a loop waits for the answers.

What libraries say about a URL that they cannot read quotes it, password and all, and would end up in logs, Events and
status. So URLs are checked at the start, and refused in our own words.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import psycopg
import redis
from psycopg.conninfo import conninfo_to_dict

from postfleet_operator.errors import InputError

TIMEOUT_SECONDS = 2

Connect = Callable[[], psycopg.Connection[Any]]


ENCODE = "with %25 for % in the password, %40 for @, %2F for /, %3A for :, %23 for # and %3F for ?"
DATABASE_REFUSED = f"it cannot be read, write it as postgresql://user:password@host:port/database, {ENCODE}"
REDIS_REFUSED = f"it cannot be read, write it as redis://:password@host:port/db, {ENCODE}"


def check_database(url: str) -> None:
    """See that a PostgreSQL URL can be read, without connecting.

    Raises:
        InputError: it cannot, or what would be taken for its host or database is a piece of its password.
    """
    try:
        ports = str(conninfo_to_dict(url).get("port") or "").split(",")
    except psycopg.Error:
        raise InputError(f"POSTFLEET_DATABASE_URL: {DATABASE_REFUSED}") from None
    authority, _, path = url.partition("://")[2].partition("?")[0].partition("/")
    cut = authority.count("@") > 1 or "@" in path
    if not url.strip() or cut or not all(map(_is_port, filter(None, ports))):
        raise InputError(f"POSTFLEET_DATABASE_URL: {DATABASE_REFUSED}") from None


def _is_port(text: str) -> bool:
    return text.isdecimal() and 0 < int(text) < 65536


def check_redis(url: str) -> None:
    """See that a Redis URL can be read, without connecting.

    Raises:
        InputError: it cannot, or what would be taken for its path is a piece of its password.
    """
    try:
        client = redis.Redis.from_url(url)
        pool = client.connection_pool
        pool.connection_class(**pool.connection_kwargs)  # refuses parameters that it does not know
        parts = urlsplit(url)
    except (ValueError, TypeError, redis.RedisError):
        raise InputError(f"POSTFLEET_REDIS_URL: {REDIS_REFUSED}") from None
    if parts.scheme == "unix":
        return
    query = "" if parts.path else parts.query  # a question mark right after the host is one of the password
    cut = "@" not in parts.netloc and "@" in parts.path + query + parts.fragment
    if cut or (parts.path.strip("/") and not parts.path.strip("/").isdecimal()):
        raise InputError(f"POSTFLEET_REDIS_URL: {REDIS_REFUSED}")


def redis_client(url: str) -> redis.Redis:
    """A client that answers or fails within `TIMEOUT_SECONDS`; connects when first used.

    Raises:
        InputError: the URL cannot be read.
    """
    check_redis(url)
    return redis.Redis.from_url(
        url,
        decode_responses=True,
        socket_timeout=TIMEOUT_SECONDS,
        socket_connect_timeout=TIMEOUT_SECONDS,
        health_check_interval=30,
    )


def database(url: str) -> Connect:
    """A function that opens a connection; every statement on it answers or fails within `TIMEOUT_SECONDS`.

    Raises:
        InputError: the URL cannot be read.
    """
    check_database(url)

    def connect() -> psycopg.Connection[Any]:
        try:
            connection = psycopg.connect(
                url,
                autocommit=True,
                connect_timeout=TIMEOUT_SECONDS,
                application_name="postfleet-operator",
                keepalives_idle=5,
                tcp_user_timeout=TIMEOUT_SECONDS * 1000,  # a host that is gone says nothing at all
                options=f"-c statement_timeout={TIMEOUT_SECONDS * 1000} -c timezone=UTC",
            )
        except psycopg.ProgrammingError:
            raise psycopg.OperationalError("POSTFLEET_DATABASE_URL cannot be read") from None
        try:
            check_schema(connection)
            connection.autocommit = False
        except BaseException:
            connection.close()
            raise
        return connection

    return connect


def check_schema(connection: psycopg.Connection[Any]) -> None:
    """See that somebody has run `postfleet migrate`.

    Raises:
        psycopg.OperationalError: nobody has, or it is another database.
    """
    [(there, newest)] = connection.execute(
        "SELECT to_regclass('workers') IS NOT NULL, to_regclass('slowdowns') IS NOT NULL"
    ).fetchall()
    if not newest:
        words = "is older than this operator" if there else "is not there"
        raise psycopg.OperationalError(f"the schema {words}: run `postfleet migrate`")
