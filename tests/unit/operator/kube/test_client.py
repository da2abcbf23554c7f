"""What the API's answers become, and what is not even sent; against a server on loopback that answers as told."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import trustme
from kubernetes.client import Configuration

from postfleet_operator.errors import (
    ClusterUnavailable,
    Conflict,
    NotFound,
    NotLeader,
    NotServed,
    OperatorError,
    Rejected,
)
from postfleet_operator.kube import client
from postfleet_operator.kube.client import Api


class Server:
    """Answers every call with `status`, `headers` and `body`."""

    def __init__(self) -> None:
        self.status, self.headers, self.body = 200, dict[str, str](), b"{}"
        self.calls: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _serve(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                outer.calls.append(f"{self.command} {self.path}")
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                self.wfile.write(outer.body)

            do_GET = do_PATCH = do_DELETE = _serve  # noqa: N815 - http.server's names

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def api(self, may_write: Callable[[], None] = client.anybody) -> Api:
        found = Configuration(host=f"http://127.0.0.1:{self.http.server_port}")
        found.retries = False
        return Api(found, may_write, source="/home/me/config")


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.http.shutdown()
    server.http.server_close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (401, ClusterUnavailable),
        (403, Rejected),
        (404, NotFound),
        (409, Conflict),
        (410, ClusterUnavailable),
        (422, Rejected),
        (429, ClusterUnavailable),
        (500, ClusterUnavailable),
        (503, ClusterUnavailable),
    ],
)
def test_what_a_refusal_becomes(server: Server, status: int, expected: type[OperatorError]) -> None:
    server.status, server.body = status, json.dumps({"message": "because\nof that"}).encode()
    with pytest.raises(expected, match="because of that") as raised:
        server.api().get("/api/v1/pods/a")
    assert type(raised.value) is expected


@pytest.mark.parametrize("errors", ["", "errors:\n  "])
def test_a_field_that_no_deployment_has_is_refused_for_good_in_the_pools_own_words(server: Server, errors: str) -> None:
    what = ".spec.template.spec.nodeSelecter: field not declared in schema"
    message = f"failed to create typed patch object (n/email; apps/v1, Kind=Deployment): {errors}{what}"
    server.status, server.body = 500, json.dumps({"kind": "Status", "message": message}).encode()
    with pytest.raises(Rejected, match=r"^spec\.podTemplate\.spec\.nodeSelecter: field not declared in schema$"):
        server.api().apply("/apis/apps/v1/namespaces/n/deployments/email", {}, "m")


def test_without_the_crds_it_is_said_how_to_install_them(server: Server) -> None:
    server.status, server.body = 404, b"404 page not found\n"
    with pytest.raises(NotServed, match=r"^the CRDs are not installed: `postfleet-operator crds \| kubectl apply"):
        server.api().list("/apis/postfleet.io/v1alpha1/jobpools", "", lambda _: None)
    with pytest.raises(NotFound, match="404 page not found") as raised:
        server.api().get("/apis/apps/v1/deployments/a")
    assert type(raised.value) is NotFound
    server.body = json.dumps({"kind": "Status", "message": 'jobpools "a" not found'}).encode()
    with pytest.raises(NotFound, match="not found") as raised:
        server.api().get("/apis/postfleet.io/v1alpha1/namespaces/n/jobpools/a")
    assert type(raised.value) is NotFound


def test_who_is_not_known_is_told_which_credentials_were_used(server: Server) -> None:
    server.status, server.body = 401, json.dumps({"message": "Unauthorized"}).encode()
    with pytest.raises(ClusterUnavailable) as raised:
        server.api().get("/api/v1/pods/a")
    assert str(raised.value) == "the API server: 401 Unauthorized; look at the credentials in /home/me/config"


def test_a_server_that_is_not_trusted_is_told_with_the_file_that_says_whom_to_trust(server: Server) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    server.http.socket = context.wrap_socket(server.http.socket, server_side=True)
    found = Configuration(host=f"https://127.0.0.1:{server.http.server_port}")
    found.retries = False
    with pytest.raises(ClusterUnavailable) as raised:
        Api(found, source="/home/me/config").get("/api/v1/pods/a")
    assert re.fullmatch(
        r"the API server: no TLS: .*certificate verify failed.*; look at its certificate authority in /home/me/config",
        str(raised.value),
    )


@pytest.mark.parametrize("body", [b"<html>", b"[]", b""])
def test_an_answer_that_is_none(server: Server, body: bytes) -> None:
    server.body = body
    with pytest.raises(ClusterUnavailable, match="the API server's answer"):
        server.api().get("/api/v1/pods/a")


def test_a_server_that_is_not_there_may_come_back() -> None:
    server = Server()
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ClusterUnavailable, match=r"^the API server: 127\.0\.0\.1:[0-9]+: .*Connection refused$"):
        server.api().get("/api/v1/pods/a")


def test_who_does_not_lead_sends_no_write(server: Server) -> None:
    def nobody() -> None:
        raise NotLeader("another leads")

    api = server.api(nobody)
    for write in (lambda: api.apply("/x", {}, "m"), lambda: api.merge("/x", {}, "m"), lambda: api.delete("/x")):
        with pytest.raises(NotLeader):
            write()
    assert server.calls == []
    api.get("/x")
    assert server.calls == ["GET /x"]


@pytest.mark.parametrize(
    ("status", "retry_after", "quiet"),
    [
        pytest.param(429, "7", 7.0, id="too many requests"),
        pytest.param(503, "7", 7.0, id="unavailable"),
        pytest.param(429, "3600", client.QUIET_SECONDS, id="longer than anybody waits"),
        pytest.param(429, "Tue, 24 Nov 2026 13:00:00 GMT", 0.0, id="a date"),
        pytest.param(500, "7", 0.0, id="another refusal"),
    ],
)
def test_a_server_that_asks_for_quiet_gets_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, status: int, retry_after: str, quiet: float
) -> None:
    now = 1000.0
    monkeypatch.setattr(client.clock, "monotonic", lambda: now)
    api = server.api()
    server.status, server.headers = status, {"Retry-After": retry_after}
    with pytest.raises(ClusterUnavailable):
        api.get("/x")
    server.status, server.headers = 200, {}
    now += quiet - 0.1
    if quiet:
        with pytest.raises(ClusterUnavailable, match="left alone"):
            api.get("/x")
        assert len(server.calls) == 1
    now += 0.2
    assert api.get("/x") == {}


def test_a_list_is_read_page_by_page(server: Server) -> None:
    found: list[str] = []

    def take(item: dict[str, str]) -> None:
        found.append(item["name"])
        server.body = json.dumps({"metadata": {"resourceVersion": "7"}, "items": [{"name": "b"}]}).encode()

    first = {"metadata": {"resourceVersion": "5", "continue": "more"}, "items": [{"name": "a"}]}
    server.body = json.dumps(first).encode()
    page = server.api().list("/x", "ours", lambda item: take(item) if len(found) < 1 else found.append(item["name"]))
    assert (found, page["metadata"]["resourceVersion"]) == (["a", "b"], "5")
    assert "continue=more" in server.calls[1]
    assert "labelSelector=ours" in server.calls[1]
