"""The health port of both deployables: probes, Prometheus' formats, and clients that get in the way."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

import postfleet_operator.health
import postfleet_workers.health

PROMETHEUS = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"


class Told:
    """What the checks say; `raises` breaks them."""

    def __init__(self) -> None:
        self.live: str | None = None
        self.ready: str | None = None
        self.registry = CollectorRegistry()
        Counter("things_total", "Things.", registry=self.registry).inc(3)


@pytest.fixture
def told() -> Told:
    return Told()


@pytest.fixture(params=[postfleet_workers.health, postfleet_operator.health], ids=["workers", "operator"])
def port(request: pytest.FixtureRequest, told: Told) -> Iterator[int]:
    module: Any = request.param
    health = module.Health("127.0.0.1", 0, live=lambda: told.live, ready=lambda: told.ready, registry=told.registry)
    health.start()
    yield health.port
    health.stop()


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, str, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.headers["Content-Type"], answer.read().decode()
    finally:
        connection.close()


def test_all_is_well(port: int) -> None:
    assert ask(port, "/healthz") == (200, "text/plain; charset=utf-8", "ok\n")
    assert ask(port, "/readyz?verbose=1")[0] == 200


def test_what_is_wrong_is_told_in_one_line(port: int, told: Told) -> None:
    told.ready = "PostgreSQL is away:\nno route to host"
    assert ask(port, "/readyz") == (
        503, "text/plain; charset=utf-8", "PostgreSQL is away: no route to host\n",
    )  # fmt: skip
    assert ask(port, "/healthz")[0] == 200


def test_a_check_that_breaks_is_not_well(told: Told) -> None:
    def broken() -> str | None:
        raise RuntimeError("no such thing")

    health = postfleet_operator.health.Health("127.0.0.1", 0, live=broken, ready=broken, registry=told.registry)
    health.start()
    try:
        assert ask(health.port, "/healthz")[0::2] == (503, "RuntimeError: no such thing\n")
    finally:
        health.stop()


def test_other_paths_and_methods(port: int) -> None:
    assert ask(port, "/")[0] == 404
    assert ask(port, "/healthz", "HEAD") == (200, "text/plain; charset=utf-8", "")
    assert ask(port, "/metrics", "HEAD")[2] == ""
    assert ask(port, "/healthz", "POST")[0] == 501


@pytest.mark.parametrize(
    ("accept", "kind", "parse"),
    [
        pytest.param("", "text/plain; version=0.0.4", parse_plain, id="asks for nothing"),
        pytest.param(PROMETHEUS, "application/openmetrics-text; version=1.0.0", parse_openmetrics, id="Prometheus"),
    ],
)
def test_metrics_come_in_the_format_that_was_asked_for(
    port: int, accept: str, kind: str, parse: Callable[[str], Any]
) -> None:
    status, found, page = ask(port, "/metrics", Accept=accept)
    assert (status, found.startswith(kind)) == (200, True)
    samples = [(s.name, s.value) for family in parse(page) for s in family.samples if s.name != "things_created"]
    assert samples == [("things_total", 3.0)]


def test_what_cannot_be_told_is_said(port: int, told: Told) -> None:
    Gauge("broken", "Broken.", registry=told.registry).set_function(lambda: 1 / 0)
    status, _, text = ask(port, "/metrics")
    assert (status, text) == (500, "ZeroDivisionError: division by zero\n")
    assert ask(port, "/healthz")[0] == 200


def test_clients_that_connect_and_say_nothing_keep_no_probe_waiting(port: int) -> None:
    with ExitStack() as stack:
        silent = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(100)]
        for client in silent[::2]:
            client.sendall(b"GET /healthz HT")
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/metrics")[0] == 200
        silent[0].settimeout(10)
        assert silent[0].recv(100) == b"", "the oldest made room"


def test_clients_that_read_nothing_keep_no_probe_waiting(port: int, told: Told) -> None:
    many = Gauge("many", "x" * 1000, ("number",), registry=told.registry)
    for number in range(20_000):
        many.labels(f"{number:0200}").set(number)
    with ExitStack() as stack:
        for _ in range(3):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert ask(port, "/healthz")[0] == 200


def test_a_server_that_never_started_can_be_stopped(told: Told) -> None:
    for module in (postfleet_workers.health, postfleet_operator.health):
        health: Any = module.Health("127.0.0.1", 0, live=lambda: None, ready=lambda: None, registry=told.registry)
        health.stop()
