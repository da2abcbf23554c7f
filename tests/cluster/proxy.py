"""A proxy in front of the API server that breaks it on purpose: refusals, delays, cut watches; and counts calls.

It speaks TLS on both sides. Callers authenticate to it with nothing; it talks to the server as the administrator.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from servers import ControlPlane

BROKEN = b'{"message": "broken on purpose"}'
BROKEN_HEADERS = {"Content-Type": "application/json", "Retry-After": "1"}
HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}


class Proxy:
    """Listens on a free port of 127.0.0.1.

    Attributes:
        refuse: given method and path, the status code to answer instead of asking the server; None to ask it.
        silent: watches are open, and tell nothing.
        delay_seconds: how long every call waits first.
        calls: calls by (method, resource), watches as WATCH.
    """

    def __init__(self, plane: ControlPlane, directory: Path) -> None:
        self.refuse: Callable[[str, str], int | None] = lambda method, path: None
        self.delay_seconds = 0.0
        self.silent = False
        self.calls: Counter[tuple[str, str]] = Counter()
        self._plane = plane
        self._streams: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(plane.directory / "server.pem", plane.directory / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://127.0.0.1:{self._server.server_address[1]}"
        self.kubeconfig = plane.write_kubeconfig(f"proxy-{self._server.server_address[1]}", self.url)

    def start(self) -> None:
        """Serve."""
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Stop serving."""
        self.cut_watches()
        self._server.shutdown()
        self._server.server_close()

    def cut_watches(self) -> int:
        """End every open watch without a word; how many."""
        with self._lock:
            streams, self._streams = self._streams, set()
        for stream in streams:
            if stream.sock is not None:
                with suppress(OSError):  # it has ended already
                    stream.sock.shutdown(socket.SHUT_RDWR)  # closing would wait for its reader
        return len(streams)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _serve(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                watch = "watch=true" in self.path or "watch=1" in self.path
                resource = resource_of(self.path)
                proxy.calls["WATCH" if watch else self.command, resource] += 1
                if proxy.delay_seconds:
                    time.sleep(proxy.delay_seconds)  # the slowness that a test asks for
                if status := proxy.refuse(self.command, self.path):
                    self._answer(
                        status,
                        {"Content-Type": "application/json", "Retry-After": "1"},
                        b'{"message": "broken on purpose"}',
                    )
                    return
                self._pass_on(body, watch=watch)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

            def _pass_on(self, body: bytes | None, *, watch: bool) -> None:
                host = urlsplit(proxy._plane.url)
                upstream = http.client.HTTPSConnection(
                    host.hostname or "", host.port, context=proxy._plane.client_context(), timeout=None if watch else 30
                )
                try:
                    headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP_BY_HOP | {"host"}}
                    upstream.request(self.command, self.path, body, headers)
                    answer = upstream.getresponse()
                    kept = {k: v for k, v in answer.getheaders() if k.lower() not in HOP_BY_HOP}
                    if watch and answer.status == 200:
                        self._stream(upstream, answer, kept)
                    else:
                        self._answer(answer.status, kept, answer.read())
                except (OSError, http.client.HTTPException):
                    self.close_connection = True
                finally:
                    upstream.close()

            def _stream(self, upstream: Any, answer: Any, headers: dict[str, str]) -> None:
                with proxy._lock:
                    proxy._streams.add(upstream)
                self.close_connection = True
                self.send_response(200)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while line := answer.readline():
                    if not proxy.silent:
                        self.wfile.write(line)
                        self.wfile.flush()

            def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        return Handler


def resource_of(path: str) -> str:
    """`pods` of `/api/v1/namespaces/n/pods/p`, `jobpools/status` of a subresource."""
    parts = urlsplit(path).path.strip("/").split("/")
    rest = parts[2 if parts[0] == "api" else 3 :]
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        rest = rest[2:]
    return "/".join([rest[0], *rest[2:3]]) if rest else ""
