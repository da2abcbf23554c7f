"""Banners of real servers, polite and otherwise."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace

import pytest
import trustme

from postfleet_operator import probing
from postfleet_operator.probing import EVERY_SECONDS, Endpoint, Prober, problem_of


@contextmanager
def server(talk: Callable[[socket.socket], None]) -> Iterator[Endpoint]:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with closing(connection), suppress(OSError):
                        talk(connection)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield Endpoint("127.0.0.1", listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)
    thread.join()


def says(*pieces: bytes, heard: list[bytes] | None = None) -> Callable[[socket.socket], None]:
    def talk(connection: socket.socket) -> None:
        for piece in pieces:
            connection.sendall(piece)
        answer = connection.recv(100)
        if heard is not None:
            heard.append(answer)

    return talk


def test_a_greeting_is_answered_politely() -> None:
    heard: list[bytes] = []
    with server(says(b"220 mx", b".example ESMTP\r\n", heard=heard)) as endpoint:
        assert problem_of(endpoint) == ""
    assert heard == [b"QUIT\r\n"]


@pytest.mark.parametrize(
    ("talk", "problem"),
    [
        pytest.param(says(b"554 5.7.1 go away\r\n"), "greets with '554 5.7.1 go away'", id="refusal"),
        pytest.param(says(b"HTTP/1.1 400 \x07Bad\r\n"), "greets with 'HTTP/1.1 400 Bad'", id="another protocol"),
        pytest.param(lambda _: None, "the connection was closed before any greeting", id="closed"),
    ],
)
def test_what_does_not_greet_is_told(talk: Callable[[socket.socket], None], problem: str) -> None:
    with server(talk) as endpoint:
        assert problem_of(endpoint) == problem


def test_a_server_that_is_not_there_or_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probing, "TIMEOUT_SECONDS", 0.1)
    with server(lambda connection: connection.recv(1) and None) as endpoint:
        assert problem_of(endpoint) == "no answer within 0 s"
    assert problem_of(endpoint) == "Connection refused"
    assert problem_of(Endpoint("x" * 70, 25)) != ""


def test_a_server_that_is_encrypted_from_the_first_byte() -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("mx.example").configure_cert(context)

    def talk(plain: socket.socket) -> None:
        with context.wrap_socket(plain, server_side=True) as connection:
            connection.sendall(b"220 mx\r\n")
            connection.recv(100)

    with server(talk) as endpoint:
        assert problem_of(replace(endpoint, tls=True)) == ""
    with server(says(b"220 mx\r\n")) as endpoint:
        assert "SSL" in problem_of(replace(endpoint, tls=True)).upper()


def test_each_server_is_asked_at_most_once_a_minute_and_nobody_waits() -> None:
    looks: list[int] = []
    seen = threading.Semaphore(0)

    def talk(connection: socket.socket) -> None:
        connection.sendall(b"220 mx\r\n")
        connection.recv(100)
        looks.append(1)
        seen.release()

    prober = Prober(lambda: 7.0)
    with server(talk) as endpoint:
        prober.keep({endpoint})
        assert prober.answer(endpoint) is None
        for now in (0.0, 1.0, EVERY_SECONDS - 1):
            prober.ask(endpoint, now)
        assert seen.acquire(timeout=10)
        prober.ask(endpoint, EVERY_SECONDS)
        assert seen.acquire(timeout=10)
        for now in (-3600.0, -3599.0):  # the clock was set back
            prober.ask(endpoint, now)
        assert seen.acquire(timeout=10)
        deadline = time.monotonic() + 10
        while prober.answer(endpoint) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = prober.answer(endpoint)
    prober.close()
    assert answer is not None
    assert (len(looks), answer.at, answer.problem) == (3, 7.0, "")
    prober.keep(set())
    assert prober.answer(endpoint) is None
