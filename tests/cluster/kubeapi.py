"""The Kubernetes API for the suite's own agents: JSON in, JSON out, and lists that are followed."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

import urllib3
from servers import ControlPlane

RETRY_SECONDS = 0.3
STRATEGIC = "application/strategic-merge-patch+json"

Manifest = Mapping[str, Any]
Told = Callable[[str, Manifest], None]
"""Takes ADDED, MODIFIED or DELETED and the object."""


class ApiError(Exception):
    """The API server answered with a status of 400 or more."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """Calls as the administrator. Safe for all threads."""

    def __init__(self, plane: ControlPlane) -> None:
        host = urlsplit(plane.url)
        self._host, self._port = host.hostname or "", host.port or 443
        self._context = plane.client_context()
        self._pool = urllib3.HTTPSConnectionPool(
            self._host, self._port, ssl_context=self._context, maxsize=8, retries=False, timeout=10
        )

    def call(self, method: str, path: str, body: Manifest | None = None, kind: str = "application/json") -> Any:
        """One call.

        Raises:
            ApiError: the server said no.
            urllib3.exceptions.HTTPError: it said nothing.
        """
        data = None if body is None else json.dumps(body)
        answer = self._pool.request(method, path, body=data, headers={"Content-Type": kind})
        found = json.loads(answer.data)
        if answer.status >= 400:
            raise ApiError(answer.status, found.get("message", ""))
        return found

    def connection(self) -> http.client.HTTPSConnection:
        """One for a watch."""
        return http.client.HTTPSConnection(self._host, self._port, context=self._context, timeout=10)

    def close(self) -> None:
        """Close what is open."""
        self._pool.close()


class Watch:
    """Follows a list: tells what is there, then every change; after a broken watch, what a new list has and lacks."""

    def __init__(self, api: Api, path: str, told: Told) -> None:
        self.listed = threading.Event()
        self._api, self._path, self._told = api, path, told
        self._known: dict[str, Manifest] = {}
        self._closing = threading.Event()
        self._socket: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, name=f"watch {path}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def close(self) -> None:
        """Stop telling."""
        self._closing.set()
        while self._thread.is_alive():
            if (open_socket := self._socket) is not None:
                # The plain one: the thread that reads sees an end, instead of a TLS layer taken from under it.
                with contextlib.suppress(OSError):
                    socket.socket.shutdown(open_socket, socket.SHUT_RDWR)
            self._thread.join(0.2)

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self._follow(self._list())
            except (OSError, ValueError, http.client.HTTPException, urllib3.exceptions.HTTPError, ApiError):
                self._closing.wait(RETRY_SECONDS)

    def _list(self) -> str:
        found = self._api.call("GET", self._path)
        items = {item["metadata"]["uid"]: item for item in found["items"]}
        for uid in self._known.keys() - items.keys():
            self._told("DELETED", self._known.pop(uid))
        for uid, item in items.items():
            self._known[uid] = item
            self._told("MODIFIED", item)
        self.listed.set()
        return str(found["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        connection = self._api.connection()
        try:
            connection.connect()
            connection.sock.settimeout(None)
            self._socket = connection.sock
            connection.request("GET", f"{self._path}?watch=true&resourceVersion={version}&timeoutSeconds=300")
            answer = connection.getresponse()
            while (line := answer.readline()) and not self._closing.is_set():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                uid = event["object"]["metadata"]["uid"]
                if event["type"] == "DELETED":
                    self._known.pop(uid, None)
                else:
                    self._known[uid] = event["object"]
                self._told(event["type"], event["object"])
            answer.close()
        finally:
            self._socket = None
            connection.close()
