"""Connections to Redis: one client per process, errors in the package's own words, and never a silent second try.

redis-py repeats a call that timed out, up to ten times (facts: a stalled send was listed twice). Hardly anything we
ask of Redis may run twice, so the clients made here try once and say PipeUnavailable; the callers know what is safe.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

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
# What a server says that understood us but cannot do it now, and one that has lost a script.
REFUSALS = (
    b"BUSY ", b"CLUSTERDOWN ", b"LOADING ", b"MASTERDOWN ", b"MISCONF ", b"NOREPLICAS ", b"NOSCRIPT ", b"OOM ",
    b"READONLY ", b"TRYAGAIN ",
)  # fmt: skip


def connect(redis_url: str, *, decode: bool = True) -> redis.Redis:
    """A client that waits at most 5 s for a reply and never repeats a call. Connects when first used.

    Args:
        redis_url: `redis://host:port/db`.
        decode: whether replies are text; Dramatiq's own client wants bytes.

    Raises:
        InputError: the URL is no Redis URL, or empty.
    """
    if not redis_url:
        raise InputError(
            "POSTFLEET_REDIS_URL is not set; set it in the environment (`postfleet-local up` writes it to DIR/env)"
        )
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


def pack(*words: bytes) -> bytes:
    """A command as it goes over the wire."""
    return b"*%d\r\n" % len(words) + b"".join([b"$%d\r\n%b\r\n" % (len(word), word) for word in words])


class Line:
    """A connection of one thread, for calls so frequent that redis-py's own work would be most of their cost.

    Takes commands that are packed, and gives replies of one line each: numbers, words, errors. A command need not be
    waited for: the replies that are owed are read before the next one that is. A connection never outlives the server
    process at its end, so what is true of that server, its `run_id`, is asked for once.
    """

    def __init__(self, client: redis.Redis, script: str) -> None:
        """`script` is loaded when the line connects; then commands may name it by its hash."""
        pool = client.connection_pool
        # In protocol 3 a server may push words between replies.
        plain = {"protocol": 2, "maint_notifications_config": None, "maint_notifications_pool_handler": None}
        self._connection: Any = pool.connection_class(**{**pool.connection_kwargs, **plain})
        self._script = script
        self._socket: Any = None
        self._read = b""
        self._owed = 0
        self.run_id = b""

    def connect(self) -> None:
        """Connect, unless the line is up. A server hangs up after long silence, or ends: then dial anew.

        Raises:
            PipeUnavailable: Redis does not answer.
        """
        if self._socket is not None and not self._owed and self._gone():
            self.close()
        if self._socket is not None:
            return
        with pipe_errors():
            self._connection.connect()
            self._connection.send_command("INFO", "server")
            found = self._connection.read_response()
            self._connection.send_command("SCRIPT", "LOAD", self._script)
            self._connection.read_response()
        info = found if isinstance(found, str) else found.decode()
        self.run_id = info.partition("run_id:")[2].split(maxsplit=1)[0].encode()
        self._socket = self._connection._sock  # noqa: SLF001 - redis-py has dialled and logged in; we do the talking
        self._read, self._owed = b"", 0
        if type(self._socket) is socket.socket:  # the kernel's timeouts spare a system call each time, TLS has none
            self._socket.settimeout(None)
            limit = struct.pack("ll", int(SOCKET_TIMEOUT_SECONDS), 0)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)

    def send(self, command: bytes) -> None:
        """Send a command and do not wait for its reply.

        Raises:
            PipeUnavailable: Redis does not answer, or refused one that was sent before; it may have run or not.
        """
        self.settle()
        if self._socket is None:
            self.connect()
        self._send(command)

    def ask(self, command: bytes) -> bytes:
        """Send a command and wait for its reply.

        Raises:
            PipeUnavailable: Redis does not answer or refused it, or one before it; it may have run or not.
        """
        self.connect()
        self._send(command)
        return self.settle()

    def settle(self) -> bytes:
        """Read what is owed; the last reply.

        Raises:
            PipeUnavailable: Redis does not answer, or refused one of them.
        """
        answer = b""
        while self._owed:
            answer = self._line()
            self._owed -= 1
            if answer[:1] == b"-":
                self.close()
                if answer[1:].startswith(REFUSALS):
                    raise PipeUnavailable(f"Redis: {answer[1:].decode(errors='replace')}")
                raise ResponseError(answer[1:].decode(errors="replace"))
        return answer[1:]

    def close(self) -> None:
        """Hang up; the next command dials anew."""
        self._socket, self._owed = None, 0
        with suppress(OSError):
            self._connection.disconnect()

    def _gone(self) -> bool:
        try:
            return bool(self._socket.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b"")
        except BlockingIOError:
            return False
        except ValueError:  # TLS takes no flags
            return False
        except OSError:
            return True

    def _send(self, command: bytes) -> None:
        try:
            self._socket.sendall(command)
        except OSError as error:
            self.close()
            raise PipeUnavailable(f"Redis: {error}") from error
        self._owed += 1

    def _line(self) -> bytes:
        while True:
            line, newline, rest = self._read.partition(b"\r\n")
            if newline:
                self._read = rest
                return line
            try:
                octets = self._socket.recv(4096)
            except OSError as error:
                self.close()
                raise PipeUnavailable(f"Redis: {error}") from error
            if not octets:
                self.close()
                raise PipeUnavailable("Redis: it closed the connection")
            self._read += octets
