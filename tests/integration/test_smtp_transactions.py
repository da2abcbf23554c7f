"""Several mails at once from one thread: who waits for whom, and whose fate is whose."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from postfleet_workers.errors import PipeUnavailable
from postfleet_workers.mail.errors import ConnectionLost
from postfleet_workers.mail.node import parse_node
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.smtp import opening
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts
from postfleet_workers.mail.smtp.transactions import Transaction, carry_out
from smtp_lab import FaultyLab
from smtp_lab import Phase as At

MESSAGE = b"Subject: s\r\n\r\nhello\r\n.dotted\r\n"
WAIT_SECONDS = 30


opened: list[SmtpSession] = []


@pytest.fixture(params=[False, True], ids=["plain", "pipelining"])
def labs(request: pytest.FixtureRequest) -> Iterator[list[FaultyLab]]:
    labs = [FaultyLab(pipelining=request.param) for _ in range(4)]
    yield labs
    while opened:
        opened.pop().abort()
    for lab in labs:
        lab.stop()


def begin(labs: Sequence[FaultyLab], dot_seconds: float = WAIT_SECONDS) -> list[Transaction]:
    """One mail for each server."""
    found = []
    for number, lab in enumerate(labs):
        smtp = {"host": "127.0.0.1", "port": lab.port, "tls": "None"}
        spec: dict[str, Any] = {"smtp": smtp, "identity": {"domain": "acme.example"}}
        timeouts = Timeouts(connect=WAIT_SECONDS, reply=WAIT_SECONDS, dot=dot_seconds)
        node, tls = parse_node("acme-1", spec), ssl.create_default_context()
        session = opening.connect(node, None, timeouts=timeouts, tls=tls)
        opened.append(session)
        found.append(Transaction(session, "n@acme.example", f"u{number}@b.example", MESSAGE))
    return found


class Diary:
    """Lets dots out, and remembers what it was asked and told, by the mails' numbers."""

    def __init__(self, transactions: Sequence[Transaction], grants: bool = True) -> None:
        self.transactions = transactions
        self.grants = grants
        self.dots: list[list[int]] = []
        self.ends: list[list[int]] = []
        self.on_dot: Callable[[list[int]], Any] = lambda _: None
        self.on_end: Callable[[list[int]], Any] = lambda _: None

    def carry_out(self) -> None:
        carry_out(self.transactions, self._may_dot, self._ended)

    def all(self, notes: list[list[int]]) -> list[int]:
        return sorted(number for numbers in notes for number in numbers)

    def codes(self) -> list[int | None]:
        return [each.answer.reply.code if each.answer else None for each in self.transactions]

    def _may_dot(self, asking: Sequence[Transaction]) -> bool:
        self.dots.append([self.transactions.index(each) for each in asking])
        self.on_dot(self.dots[-1])
        return self.grants

    def _ended(self, over: Sequence[Transaction]) -> None:
        self.ends.append([self.transactions.index(each) for each in over])
        self.on_end(self.ends[-1])


def test_each_mail_arrives_whole_and_is_told_once(labs: list[FaultyLab]) -> None:
    diary = Diary(begin(labs))
    diary.carry_out()
    assert diary.codes() == [250] * 4
    assert diary.all(diary.dots) == diary.all(diary.ends) == [0, 1, 2, 3]
    assert [[mail.recipient for mail in lab.accepted] for lab in labs] == [[f"u{n}@b.example"] for n in range(4)]


@pytest.mark.parametrize("at", [At.MAIL, At.RCPT, At.DATA])
def test_a_server_that_is_slow_before_the_dot_keeps_no_other_waiting(labs: list[FaultyLab], at: At) -> None:
    release = threading.Event()
    labs[1].fail(at, release=release)
    diary = Diary(begin(labs))
    diary.on_end = lambda _: release.set() if diary.all(diary.ends) == [0, 2, 3] else None
    diary.carry_out()
    assert release.is_set(), "the others were through before it spoke"
    assert diary.codes() == [250] * 4
    assert (diary.dots[-1], diary.ends[-1]) == ([1], [1])


def test_what_has_ended_is_told_before_a_long_wait_for_the_reply_to_a_dot(labs: list[FaultyLab]) -> None:
    release = threading.Event()
    labs[2].fail(At.DOT, release=release)
    diary = Diary(begin(labs))
    diary.on_end = lambda _: release.set() if diary.all(diary.ends) == [0, 1, 3] else None
    diary.carry_out()
    assert diary.ends[-1] == [2]
    assert diary.codes() == [250] * 4


@pytest.mark.parametrize("labs", [True], indirect=True, ids=["pipelining"])
def test_dots_are_asked_for_together_by_all_that_came_while_the_journal_was_asked(labs: list[FaultyLab]) -> None:
    release = threading.Event()
    for lab in labs[1:]:
        lab.fail(At.MAIL, release=release)
    diary = Diary(begin(labs))

    def then_the_others(asking: list[int]) -> None:
        if asking == [0]:
            release.set()
            for number in (1, 2, 3):  # until all of their replies before the dot are here
                sock = diary.transactions[number].session._wire.sock
                while b"354 " not in sock.recv(4096, socket.MSG_PEEK):
                    pass

    diary.on_dot = then_the_others
    diary.carry_out()
    assert diary.codes() == [250] * 4
    assert [sorted(asking) for asking in diary.dots] == [[0], [1, 2, 3]]


def test_a_refusal_a_hang_up_and_a_silence_are_each_their_own(labs: list[FaultyLab]) -> None:
    labs[0].fail(At.RCPT, reply="550 5.1.1 no such user")
    labs[1].fail(At.DATA, drop=True)
    silence = threading.Event()
    labs[2].fail(At.DOT, release=silence)
    diary = Diary(begin(labs, dot_seconds=1.0))
    diary.carry_out()
    silence.set()
    assert diary.codes() == [550, None, None, 250]
    _, dropped, silent, _ = diary.transactions
    assert isinstance(dropped.error, ConnectionLost)
    assert dropped.error.phase in {Phase.MAIL, Phase.RCPT, Phase.DATA}
    assert isinstance(silent.error, ConnectionLost)
    assert (silent.error.phase, str(silent.error)) == (Phase.DOT, "timed out")
    assert [each.session.usable for each in diary.transactions] == [True, False, False, True]


@pytest.mark.parametrize("labs", [True], indirect=True, ids=["pipelining"])
def test_after_a_mistake_in_the_envelope_no_other_mail_goes_over_the_session(
    labs: list[FaultyLab], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its last replies are unread, and the next mail would take them for its own."""

    def stumble(code: int, words: bytes) -> Any:
        raise ZeroDivisionError("of all replies, this one")

    labs[0].fail(At.RCPT, reply="550 5.1.1 no such user")
    diary = Diary(begin(labs[:1]))
    monkeypatch.setattr("postfleet_workers.mail.smtp.session.parse", stumble)
    diary.carry_out()
    assert isinstance(diary.transactions[0].error, ZeroDivisionError)
    assert not diary.transactions[0].session.usable


def test_without_leave_no_dot_goes_out(labs: list[FaultyLab]) -> None:
    diary = Diary(begin(labs), grants=False)
    diary.carry_out()
    assert [(each.over, each.answer, each.error) for each in diary.transactions] == [(True, None, None)] * 4
    assert [each.session.usable for each in diary.transactions] == [False] * 4
    assert [lab.accepted for lab in labs] == [[]] * 4


def test_where_the_journal_is_away_a_dot_that_is_out_already_is_waited_for(labs: list[FaultyLab]) -> None:
    """The first dot goes out alone, the server answers it late, and meanwhile the journal fails for the others."""
    release, late = threading.Event(), threading.Event()
    for lab in labs[1:]:
        lab.fail(At.MAIL, release=release)
    labs[0].fail(At.DOT, release=late)
    diary = Diary(begin(labs))

    def then_fail(asking: list[int]) -> None:
        if asking == [0]:
            release.set()
            return
        if diary.all(diary.dots) == [0, 1, 2, 3]:
            late.set()
        raise PipeUnavailable("Redis is away")

    diary.on_dot = then_fail
    diary.carry_out()
    assert diary.codes() == [250, None, None, None]
    assert [type(each.error) for each in diary.transactions] == [type(None), *[PipeUnavailable] * 3]
    assert [lab.accepted for lab in labs[1:]] == [[]] * 3
