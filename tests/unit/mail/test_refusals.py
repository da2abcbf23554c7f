"""How long a process leaves a node alone that refuses its login; time moves when the test says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.errors import LoginRefused, SetupFault, TlsFailed, Unreachable
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.smtp.refusals import Refusals

OLD, NEW = Login("ann", "old"), Login("ann", "new")


def node(name: str = "n1", **smtp: Any) -> NodeSpec:
    spec = {"smtp": {"host": "smtp.example", **smtp}, "identity": {"domain": "acme.example"}}
    return parse_node(name, spec)


class Server:
    """Stands for opening a session: counts how often it is asked, and refuses while told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asked = 0
        self.fault: Callable[[], Exception] | None = lambda: LoginRefused(Phase.AUTH, "login refused: 535")
        self.refusals = Refusals(monotonic=lambda: self.now, jitter=lambda: 0.0)

    def open(self) -> str:
        self.asked += 1
        if self.fault:
            raise self.fault()
        return "session"

    def attempt(self, login: Login | None = OLD, spec: NodeSpec | None = None) -> str | None:
        return self.refusals.attempt(spec or node(), login, self.open)

    def refused(self, login: Login | None = OLD, spec: NodeSpec | None = None) -> SetupFault:
        with pytest.raises(SetupFault) as caught:
            self.attempt(login, spec)
        return caught.value


def test_a_refused_login_is_not_offered_again_for_a_while_that_grows_to_ten_minutes() -> None:
    server = Server()
    pauses = []
    for times in range(1, 7):
        fault = server.refused()
        assert (fault.times, fault.remembered, server.asked) == (times, False, times)
        pauses.append(fault.pause_seconds)
        server.now += fault.pause_seconds - 1
        again = server.refused()
        assert (again.times, again.remembered, server.asked) == (times, True, times)
        assert str(again) == "login refused: 535 (not tried again for 1 s, unless the login changes)"
        server.now += 1
    assert pauses == [60, 120, 240, 300, 300, 300]


def test_another_login_ends_the_pause_at_once() -> None:
    server = Server()
    server.refused()
    server.fault = None
    assert server.attempt(NEW) == "session"


def test_another_server_ends_the_pause_at_once() -> None:
    server = Server()
    server.refused()
    server.fault = None
    assert server.attempt(spec=node(host="other.example")) == "session"


def test_other_nodes_are_not_paused() -> None:
    server = Server()
    server.refused()
    server.fault = None
    assert server.attempt(spec=node("n2")) == "session"


def test_a_login_that_works_again_begins_anew() -> None:
    server = Server()
    for _ in range(3):
        server.now += server.refused().pause_seconds
    server.fault, refuse = None, server.fault
    assert server.attempt() == "session"
    server.fault = refuse
    assert server.refused().times == 1


def test_tls_that_is_not_to_be_trusted_pauses_the_node_too_with_or_without_a_login() -> None:
    for login in (None, OLD):
        server = Server()
        server.fault = lambda: TlsFailed(Phase.STARTTLS, "certificate not trusted: expired")
        server.refused(login)
        assert isinstance(server.refused(login), TlsFailed)
        assert server.asked == 1


def test_a_server_that_does_not_answer_is_not_paused_here() -> None:
    server = Server()
    server.fault = lambda: Unreachable(Phase.CONNECT, "refused")
    for _ in range(2):
        with pytest.raises(Unreachable):
            server.attempt()
    assert server.asked == 2


@contextmanager
def trying(server: Server) -> Iterator[None]:
    """Meanwhile a thread waits for the server, which in the end does not answer."""
    asked, end = threading.Event(), threading.Event()

    def silent() -> str:
        asked.set()
        end.wait(10)
        raise Unreachable(Phase.CONNECT, "timed out")

    def one() -> None:
        with suppress(Unreachable):
            server.refusals.attempt(node(), OLD, silent)

    thread = threading.Thread(target=one)
    thread.start()
    assert asked.wait(10)
    try:
        yield
    finally:
        end.set()
        thread.join(10)


def test_while_one_thread_tries_a_server_that_was_silent_a_moment_ago_the_others_need_not_wait() -> None:
    """Else every thread but one would wait for a session in vain, and put its mail back to be offered at once."""
    server = Server()
    with trying(server):
        assert server.attempt() is None  # nothing is known yet
    with trying(server):
        server.now += 600  # a server that takes a login's connection and then says nothing holds one for minutes
        for _ in range(2):
            with pytest.raises(Unreachable) as caught:
                server.attempt()
            assert caught.value.remembered
            assert (caught.value.phase, str(caught.value)) == (Phase.CONNECT, "timed out (a moment ago)")
    assert server.asked == 0
    server.fault = None
    assert server.attempt() == "session"


def test_what_a_server_was_long_ago_says_nothing() -> None:
    server = Server()
    with trying(server):
        pass
    server.now += 31
    with trying(server):
        assert server.attempt() is None


def test_a_login_that_has_not_worked_yet_is_tried_by_one_thread_at_a_time() -> None:
    """A process with eight threads must not spend eight of the few tries that a provider grants."""
    server = Server()
    offered, answer = threading.Event(), threading.Event()

    def slowly() -> str:
        offered.set()
        answer.wait(10)
        return server.open()

    found: list[SetupFault] = []

    def first() -> None:
        try:
            server.refusals.attempt(node(), OLD, slowly)
        except SetupFault as fault:
            found.append(fault)

    thread = threading.Thread(target=first)
    thread.start()
    assert offered.wait(10)
    assert server.attempt() is None
    answer.set()
    thread.join(10)
    assert (len(found), server.asked) == (1, 1)
    assert server.refused().remembered
    server.now += found[0].pause_seconds
    server.fault = None
    assert server.attempt() == "session"


def test_threads_that_are_refused_together_count_once() -> None:
    server = Server()
    server.fault, refuse = None, server.fault
    server.attempt()
    server.fault = refuse
    both = threading.Barrier(2, timeout=10)

    def together() -> str:
        both.wait()
        return server.open()

    found: list[SetupFault] = []

    def one() -> None:
        try:
            server.refusals.attempt(node(), OLD, together)
        except SetupFault as fault:
            found.append(fault)

    threads = [threading.Thread(target=one) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert [fault.times for fault in found] == [1, 1]
