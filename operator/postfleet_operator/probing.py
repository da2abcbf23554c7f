"""Reads the banners of SMTP servers: a few threads of its own, so that no server's silence holds up the operator.

Each server at most once a minute, with a polite QUIT. Whether its certificate is to be trusted is for the workers to
find out; here only an answer counts.
"""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue

from postfleet_operator.reachability import Probe
from postfleet_operator.rounds import due

EVERY_SECONDS = 60.0
TIMEOUT_SECONDS = 5.0
THREADS = 4
MOST_BYTES = 1024
MOST_PIECES = 8


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server listens; `tls`: encrypted from the first byte."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Prober:
    """Probes on request and remembers the last answer of each endpoint.

    Args:
        clock: epoch seconds.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._asked: SimpleQueue[Endpoint | None] = SimpleQueue()
        self._asked_at: dict[Endpoint, float] = {}
        self._answers: dict[Endpoint, Probe] = {}
        self._threads: list[threading.Thread] = []

    def ask(self, endpoint: Endpoint, now: float) -> None:
        """See that the endpoint is looked at, if that was not done within the last minute. Never waits."""
        with self._lock:
            asked_at = self._asked_at.get(endpoint)
            if asked_at is not None and not due(now, asked_at + EVERY_SECONDS, EVERY_SECONDS):
                return
            self._asked_at[endpoint] = now
            if len(self._threads) < THREADS:
                thread = threading.Thread(target=self._work, name="smtp-probe", daemon=True)
                self._threads.append(thread)
                thread.start()
        self._asked.put(endpoint)

    def answer(self, endpoint: Endpoint) -> Probe | None:
        """What the last look at it gave."""
        with self._lock:
            return self._answers.get(endpoint)

    def keep(self, endpoints: Collection[Endpoint]) -> None:
        """Forget all others."""
        with self._lock:
            self._asked_at = {each: at for each, at in self._asked_at.items() if each in endpoints}
            self._answers = {each: probe for each, probe in self._answers.items() if each in endpoints}

    def close(self) -> None:
        """End the threads, as soon as their servers have answered or their time is up."""
        for _ in self._threads:
            self._asked.put(None)

    def _work(self) -> None:
        while (endpoint := self._asked.get()) is not None:
            problem = problem_of(endpoint)
            with self._lock:
                if endpoint in self._asked_at:
                    self._answers[endpoint] = Probe(self._clock(), str(endpoint), problem)


def problem_of(endpoint: Endpoint) -> str:
    """Connect and read the banner: what is wrong with it, or empty."""
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=TIMEOUT_SECONDS) as plain:
            if not endpoint.tls:
                return _greeting(plain)
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(plain, server_hostname=endpoint.host) as encrypted:
                return _greeting(encrypted)
    except TimeoutError:
        return f"no answer within {TIMEOUT_SECONDS:.0f} s"
    except (OSError, UnicodeError) as error:  # UnicodeError: a host that cannot be a name
        return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _greeting(connection: socket.socket) -> str:
    banner = b""
    for _ in range(MOST_PIECES):
        if not (more := connection.recv(MOST_BYTES)):
            return "the connection was closed before any greeting"
        banner += more
        if b"\n" in banner:
            break
    with suppress(OSError):
        connection.sendall(b"QUIT\r\n")
    if banner.startswith(b"220"):
        return ""
    line = banner.partition(b"\n")[0].decode("ascii", "replace")
    return f"greets with {''.join(c for c in line if c.isprintable())[:100]!r}"
