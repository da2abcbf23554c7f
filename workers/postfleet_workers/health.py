"""/healthz (the process should go on), /readyz (it does its work), /metrics (for Prometheus), over plain HTTP.

Every answer is prepared before the first byte is sent, every connection has a thread of its own, and there are never
more than `MOST_CONNECTIONS`: the oldest makes room, so that clients who connect and say nothing keep no probe waiting.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

MOST_CONNECTIONS = 32
CLIENT_SECONDS = 5.0

# None when all is well, else what is wrong, in one line. Asked at every probe: it must not wait for anything.
Check = Callable[[], str | None]
Answer = tuple[HTTPStatus, str, bytes]

TEXT = "text/plain; charset=utf-8"


class Health:
    """The endpoints in threads of their own; `port` is the one that it got.

    Args:
        host: address to listen on.
        port: 0 takes a free one.
        live: answers /healthz.
        ready: answers /readyz.
        registry: what /metrics shows.
    """

    def __init__(self, host: str, port: int, *, live: Check, ready: Check, registry: CollectorRegistry) -> None:
        pages: dict[str, Callable[[str], Answer]] = {
            "/healthz": lambda _accept: _probe(live),
            "/readyz": lambda _accept: _probe(ready),
            "/metrics": lambda accept: _metrics(registry, accept),
        }

        class Handler(BaseHTTPRequestHandler):
            timeout = CLIENT_SECONDS

            def do_GET(self) -> None:
                self._answer(body=True)

            def do_HEAD(self) -> None:
                self._answer(body=False)

            def _answer(self, *, body: bool) -> None:
                page = pages.get(self.path.partition("?")[0])
                status, kind, content = _not_found() if page is None else page(self.headers.get("Accept", ""))
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                if body:
                    self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        self._server = _Server((host, port), Handler)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.1,), name="health", daemon=True)

    def start(self) -> None:
        """Serve."""
        self._thread.start()

    def stop(self) -> None:
        """Stop serving."""
        if self._thread.is_alive():
            self._server.shutdown()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self._open: dict[Any, None] = {}  # in the order of arrival
        self._lock = threading.Lock()
        super().__init__(address, handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._lock:
            self._open[request] = None
            if len(self._open) > MOST_CONNECTIONS:
                oldest = next(iter(self._open))
                del self._open[oldest]
                _hang_up(oldest)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._lock:
            self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away, or was sent away, is no news."""


def _hang_up(connection: socket.socket) -> None:
    with suppress(OSError):  # it is gone already
        connection.shutdown(socket.SHUT_RDWR)


def _probe(check: Check) -> Answer:
    try:
        problem = check()
    except Exception as error:  # noqa: BLE001 - whatever it is, the probe must tell it
        problem = f"{type(error).__name__}: {error}"
    if problem is None:
        return HTTPStatus.OK, TEXT, b"ok\n"
    return HTTPStatus.SERVICE_UNAVAILABLE, TEXT, f"{' '.join(problem.split())}\n".encode()


def _metrics(registry: CollectorRegistry, accept: str) -> Answer:
    try:
        encode, kind = choose_encoder(accept)
        return HTTPStatus.OK, kind, encode(registry)
    except Exception as error:  # noqa: BLE001 - one broken collector, or a format that is none: say which
        return HTTPStatus.INTERNAL_SERVER_ERROR, TEXT, f"{type(error).__name__}: {error}\n".encode()


def _not_found() -> Answer:
    return HTTPStatus.NOT_FOUND, TEXT, b"try /healthz, /readyz or /metrics\n"
