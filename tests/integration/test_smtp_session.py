"""One SMTP session against real servers: where it fails decides what it may be taken for."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from email import message_from_bytes, policy

import pytest

from integration.smtp_steps import connect, deliver, opened
from mail_lab import Lab
from postfleet_workers.mail.errors import ConnectionLost, Unreachable
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.smtp.session import Timeouts
from smtp_lab import FaultyLab, running
from smtp_lab import Phase as At


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    while opened:
        opened.pop().abort()


@pytest.fixture(params=[False, True], ids=["plain", "pipelining"])
def faulty(request: pytest.FixtureRequest) -> Iterator[FaultyLab]:
    with running(FaultyLab(pipelining=request.param)) as lab:
        yield lab


def test_many_mails_go_over_one_connection(lab: Lab) -> None:
    session = connect(lab.port)
    for number in range(20):
        answer = deliver(session, number)
        assert answer is not None
        assert (answer.phase, answer.reply.code) == (Phase.DOT, 250)
    session.close()
    assert [m.email_id for m in lab.accepted] == list(range(20))
    assert (session.delivered, lab.connections) == (20, 1)


@pytest.mark.parametrize("text", [".", ".\n..\n...x\n.", "a\n.\nb", "." * 2000, "é\n.\n."])
def test_dots_at_the_start_of_lines_survive(lab: Lab, text: str) -> None:
    deliver(connect(lab.port), text=text)
    body = message_from_bytes(lab.accepted[0].data, policy=policy.default).get_content()
    assert body.replace("\r\n", "\n") == text + "\n"


def test_a_refused_recipient_leaves_the_session_fit_for_the_next_mail(faulty: FaultyLab) -> None:
    faulty.fail(At.RCPT, reply="550 5.1.1 no such user")
    session = connect(faulty.port)
    refused = deliver(session, 1)
    assert refused is not None
    assert (refused.phase, refused.reply.enhanced) == (Phase.RCPT, "5.1.1")
    accepted = deliver(session, 2)
    assert accepted is not None
    assert accepted.reply.code == 250
    assert [m.email_id for m in faulty.accepted] == [2]
    assert faulty.connections == 1


@pytest.mark.parametrize(
    ("at", "phase"), [(At.MAIL, Phase.MAIL), (At.RCPT, Phase.RCPT), (At.DATA, Phase.DATA), (At.DOT, Phase.DOT)]
)
def test_a_refusal_tells_what_it_answered(faulty: FaultyLab, at: At, phase: Phase) -> None:
    faulty.fail(at, reply="451 4.3.0 not now")
    answer = deliver(connect(faulty.port))
    assert answer is not None
    assert (answer.phase, str(answer.reply)) == (phase, "451 4.3.0 not now")
    assert faulty.accepted == []


@pytest.mark.parametrize(
    ("at", "phase"), [(At.CONNECT, Phase.BANNER), (At.BANNER, Phase.BANNER), (At.EHLO, Phase.EHLO)]
)
def test_a_connection_dropped_before_mail_is_unreachable(faulty: FaultyLab, at: At, phase: Phase) -> None:
    faulty.fail(at, drop=True)
    with pytest.raises(Unreachable) as caught:
        connect(faulty.port)
    assert caught.value.phase is phase


def test_a_closed_port_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Unreachable, match="Connection refused") as caught:
        connect(port)
    assert caught.value.phase is Phase.CONNECT


@pytest.mark.parametrize("banner", ["554 5.7.1 no service for you", "421 too busy", "gibberish"])
def test_a_server_that_turns_us_away_is_unreachable_with_its_words(faulty: FaultyLab, banner: str) -> None:
    faulty.fail(At.BANNER, reply=banner, drop=True)
    with pytest.raises(Unreachable) as caught:
        connect(faulty.port)
    assert caught.value.phase is Phase.BANNER
    assert caught.value.reply is not None


@pytest.mark.parametrize("at", [At.MAIL, At.RCPT, At.DATA])
def test_a_connection_dropped_in_the_envelope_is_lost_before_the_body(faulty: FaultyLab, at: At) -> None:
    faulty.fail(at, drop=True)
    session = connect(faulty.port)
    dots: list[int] = []

    def before_dot() -> bool:
        dots.append(1)
        return True

    with pytest.raises(ConnectionLost) as caught:
        deliver(session, before_dot=before_dot)
    assert caught.value.phase in {Phase.MAIL, Phase.RCPT, Phase.DATA}
    assert (dots, session.usable) == ([], False)


def test_a_connection_dropped_in_the_body_is_noticed_before_the_dot(faulty: FaultyLab) -> None:
    fault = faulty.fail(At.BODY, drop=True)
    session = connect(faulty.port)
    asked: list[bool] = []

    def before_dot() -> bool:
        asked.append(True)
        return True

    # Megabytes do not fit into the buffers between us: the server's close is seen while the body is being written.
    with pytest.raises(ConnectionLost) as caught:
        deliver(session, text="x" * 60 + "\n" + ("y" * 900 + "\n") * 40_000, before_dot=before_dot)
    assert fault.reached.is_set()
    assert (caught.value.phase, asked) == (Phase.BODY, [])


@pytest.mark.parametrize("at", [At.DOT])
def test_a_connection_dropped_after_the_dot_is_lost_at_the_dot(faulty: FaultyLab, at: At) -> None:
    faulty.fail(at, drop=True)
    with pytest.raises(ConnectionLost) as caught:
        deliver(connect(faulty.port))
    assert caught.value.phase is Phase.DOT


def test_a_connection_dropped_after_the_reply_does_not_matter(faulty: FaultyLab) -> None:
    faulty.fail(At.REPLIED, drop=True)
    session = connect(faulty.port)
    answer = deliver(session)
    assert answer is not None
    assert answer.reply.code == 250


@pytest.mark.parametrize(
    ("phase", "seconds"),
    [
        (Phase.CONNECT, 30), (Phase.BANNER, 300), (Phase.EHLO, 300), (Phase.STARTTLS, 300), (Phase.AUTH, 300),
        (Phase.MAIL, 300), (Phase.RCPT, 300), (Phase.DATA, 120), (Phase.BODY, 180), (Phase.DOT, 600),
    ],
)  # fmt: skip
def test_each_step_is_given_the_time_of_rfc_5321_unless_less_is_set(phase: Phase, seconds: float) -> None:
    assert Timeouts().of(phase) == seconds
    assert Timeouts(connect=1, reply=2, dot=3).of(phase) == {Phase.CONNECT: 1, Phase.DOT: 3}.get(phase, 2)


def test_a_reply_that_never_ends_is_waited_for_no_longer_than_one_that_never_comes() -> None:
    ending = threading.Event()

    def trickle(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            while not ending.wait(0.05):
                connection.sendall(b"220-wait\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = threading.Thread(target=trickle, args=(listener,))
        server.start()
        with pytest.raises(Unreachable, match="timed out"):
            connect(listener.getsockname()[1], timeouts=Timeouts(connect=5, reply=0.3, dot=5))
        ending.set()
        server.join(10)


def test_silence_after_the_dot_is_lost_at_the_dot(faulty: FaultyLab) -> None:
    release = threading.Event()
    faulty.fail(At.DOT, release=release, drop=True)
    with pytest.raises(ConnectionLost, match="timed out") as caught:
        deliver(connect(faulty.port, timeouts=Timeouts(connect=5, reply=5, dot=0.2)))
    assert caught.value.phase is Phase.DOT
    release.set()


@pytest.mark.parametrize("at", [At.MAIL, At.RCPT, At.DATA])
def test_silence_before_the_dot_is_lost_before_it(faulty: FaultyLab, at: At) -> None:
    release = threading.Event()
    faulty.fail(at, release=release, drop=True)
    with pytest.raises(ConnectionLost, match="timed out") as caught:
        deliver(connect(faulty.port, timeouts=Timeouts(connect=5, reply=0.2, dot=5)))
    assert caught.value.phase is not Phase.DOT
    release.set()


@pytest.mark.parametrize("reply", ["gibberish", "2xx", "25"])
def test_an_answer_that_is_none_ends_the_session(faulty: FaultyLab, reply: str) -> None:
    faulty.fail(At.DOT, reply=reply)
    session = connect(faulty.port)
    answer = deliver(session)
    assert answer is not None
    assert (answer.phase, answer.reply.code, session.usable) == (Phase.DOT, -1, False)


def test_a_421_ends_the_session(faulty: FaultyLab) -> None:
    faulty.fail(At.RCPT, reply="421 4.3.2 shutting down", drop=True)
    session = connect(faulty.port)
    answer = deliver(session)
    assert answer is not None
    assert (answer.phase, answer.reply.code, session.usable) == (Phase.RCPT, 421, False)


def test_a_refusal_while_the_body_is_sent_is_seen_before_the_dot(faulty: FaultyLab) -> None:
    fault = faulty.fail(At.BODY, reply="552 5.3.4 too big", drop=True)
    session = connect(faulty.port)
    with pytest.raises(ConnectionLost) as caught:
        deliver(session, text=("y" * 900 + "\n") * 40_000)
    assert fault.reached.is_set()
    assert caught.value.phase is Phase.BODY


def test_without_permission_for_the_dot_nothing_is_delivered(faulty: FaultyLab) -> None:
    session = connect(faulty.port)
    assert deliver(session, before_dot=lambda: False) is None
    assert (faulty.accepted, session.usable) == ([], False)


def test_the_dot_is_asked_for_after_the_body_and_before_it_goes_out(faulty: FaultyLab) -> None:
    def before_dot() -> bool:
        faulty.log.append(("asked", None))
        return True

    deliver(connect(faulty.port), before_dot=before_dot)
    kinds = [kind for kind, what in faulty.log if kind != "command"]
    assert kinds == ["asked", "dot"]


def test_an_idle_session_knows_that_the_server_has_gone(faulty: FaultyLab) -> None:
    session = connect(faulty.port)
    assert session.alive()
    faulty.stop()
    assert not session.alive()


def test_a_server_that_limits_size_is_told_it_before_the_mail() -> None:
    with running(Lab(most_octets=2000)) as lab:
        session = connect(lab.port)
        refused = deliver(session, text="x" * 3000)
        assert refused is not None
        assert (refused.phase, refused.reply.code) == (Phase.MAIL, 552)
        accepted = deliver(session, 2)
        assert accepted is not None
        assert accepted.reply.code == 250


def test_international_addresses_need_smtputf8(lab: Lab) -> None:
    answer = deliver(connect(lab.port), to="jörg@b.example")
    assert answer is not None
    assert answer.reply.code == 250
    assert lab.accepted[0].recipient == "jörg@b.example"
    with running(FaultyLab()) as faulty:
        answer = deliver(connect(faulty.port), to="jörg@b.example")
        assert answer is not None
        assert (answer.reply.code, answer.reply.enhanced) == (553, "5.6.7")
