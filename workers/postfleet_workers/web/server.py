"""The server around the site: a socket, uvicorn, and an end that writes down what is known.

It needs no PostgreSQL to start, nor to be ready: readers are sent on whatever happens.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading

import structlog
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.protocols.http.h11_impl import H11Protocol

from postfleet_workers.errors import InputError
from postfleet_workers.health import Health
from postfleet_workers.mail.tokens import Key
from postfleet_workers.metrics.web import WebMetrics
from postfleet_workers.settings import Settings
from postfleet_workers.store.session import engine_for
from postfleet_workers.web.recorder import Recorder
from postfleet_workers.web.site import Site
from postfleet_workers.web.unsubscribing import CONNECTIONS, Unsubscribing

log = structlog.get_logger(__name__)

MOST_CONNECTIONS = 1000  # more are told 503
# From the first byte of a request to the last one of its answer; that of unsubscribing takes 13 s at most. Whoever says
# nothing, or a letter now and then, or does not listen, keeps nobody out for long.
REQUEST_SECONDS = 20.0
MOST_HEAD_BYTES = 16 * 1024  # a signed address of a link is the longest of it
IDLE_SECONDS = 75  # longer than proxies keep connections: a POST on one that just ends is lost, they do not repeat it
# Of the shutdown: answers that were begun, then what readers did.
ANSWER_SECONDS = 10
FLUSH_SECONDS = 10.0


def serve(settings: Settings, key: Key) -> None:
    """Answer until SIGTERM or SIGINT; then finish what was begun and write what was noted.

    Raises:
        InputError: the address cannot be listened on, or the database's URL cannot be read.
    """
    registry = CollectorRegistry()
    metrics = WebMetrics(registry)
    engine = engine_for(settings.database_url, connections=CONNECTIONS + 1, application_name="postfleet-web")
    listening = _listen(settings.web_host, settings.web_port)
    recorder = Recorder(engine, metrics)
    unsubscribing = Unsubscribing(engine, key, metrics)
    server = uvicorn.Server(
        uvicorn.Config(
            Site(key, recorder, unsubscribing, metrics).application,
            loop="asyncio",
            http=_Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,  # it would name tokens
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=ANSWER_SECONDS,
            h11_max_incomplete_event_size=MOST_HEAD_BYTES,
        )
    )
    health = Health(
        settings.health_host,
        settings.health_port,
        live=lambda: None if recorder.alive() else "the thread that writes events has ended",
        ready=lambda: None if server.started else "not listening yet",
        registry=registry,
    )
    # uvicorn has handlers of its own while it serves, and afterwards gives the signal to these.
    asked = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: asked.set())
    recorder.start()
    health.start()
    log.info("health", port=health.port)
    log.info("web", port=listening.getsockname()[1])
    server.run(sockets=[listening])
    unsubscribing.close()
    recorder.close(FLUSH_SECONDS)
    health.stop()
    engine.dispose()


class _Connection(H11Protocol):
    """Ends when a request takes too long: uvicorn by itself waits for its head, and to be heard, for ever."""

    _end: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._begun()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._begun()

    def on_response_complete(self) -> None:
        self._ended()
        super().on_response_complete()
        if not self.cycle.response_complete:  # the next request was there already
            self._begun()

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._begun()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()
        super().connection_lost(exc)

    def _begun(self) -> None:
        if self._end is None:
            self._end = self.loop.call_later(REQUEST_SECONDS, self.transport.abort)

    def _ended(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise InputError(
            f"POSTFLEET_WEB_HOST={host} POSTFLEET_WEB_PORT={port}: cannot be listened on: {error.strerror or error}"
        ) from None
