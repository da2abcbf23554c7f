"""TLS and logins of an SMTP session, against real servers."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from traceback import format_exception

import pytest
import trustme

from integration.smtp_steps import connect, deliver, opened
from mail_lab import Lab
from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.errors import LoginRefused, TlsFailed
from postfleet_workers.mail.replies.reply import Phase
from smtp_lab import FaultyLab, running


@pytest.fixture(autouse=True)
def _close_what_was_opened() -> Iterator[None]:
    yield
    while opened:
        opened.pop().abort()


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trust(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_tls(authority: trustme.CA, name: str = "127.0.0.1") -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert(name).configure_cert(context)
    return context


@pytest.mark.parametrize("tls", ["StartTLS", "Implicit"])
def test_mail_goes_over_trusted_tls(authority: trustme.CA, trust: ssl.SSLContext, tls: str) -> None:
    with running(Lab(tls=server_tls(authority), implicit=tls == "Implicit", login=("ann", "secret"))) as lab:
        session = connect(lab.port, tls, Login("ann", "secret"), trust=trust)
        answer = deliver(session)
        assert answer is not None
        assert answer.reply.code == 250
        assert lab.logins == ["ann"]
        assert session.alive()
        session.close()


def test_a_login_makes_opportunistic_tls_required(authority: trustme.CA, trust: ssl.SSLContext) -> None:
    with running(Lab(tls=server_tls(authority), login=("ann", "secret"))) as lab:
        connect(lab.port, "Opportunistic", Login("ann", "secret"), trust=trust).close()
        assert lab.logins == ["ann"]
    with running(FaultyLab(tls=server_tls(authority))) as faulty:
        with pytest.raises(TlsFailed, match="certificate not trusted"):
            connect(faulty.port, "Opportunistic", Login("ann", "secret"))
        assert faulty.connections == 1
    with running(Lab()) as lab, pytest.raises(TlsFailed, match="does not offer STARTTLS"):
        connect(lab.port, "Opportunistic", Login("ann", "secret"))


@pytest.mark.parametrize("tls", ["StartTLS", "Implicit"])
def test_an_untrusted_certificate_is_refused(authority: trustme.CA, tls: str) -> None:
    with running(Lab(tls=server_tls(authority), implicit=tls == "Implicit")) as lab:
        with pytest.raises(TlsFailed, match="certificate not trusted") as caught:
            connect(lab.port, tls)
        assert caught.value.phase is Phase.STARTTLS


def test_a_certificate_for_another_host_is_refused(authority: trustme.CA, trust: ssl.SSLContext) -> None:
    with (
        running(Lab(tls=server_tls(authority, "other.example"))) as lab,
        pytest.raises(TlsFailed, match="certificate not trusted"),
    ):
        connect(lab.port, "StartTLS", trust=trust)


def test_required_starttls_that_is_not_offered_is_refused(lab: Lab) -> None:
    with pytest.raises(TlsFailed, match="does not offer STARTTLS"):
        connect(lab.port, "StartTLS")


def test_a_wrong_password_is_refused_and_never_shown() -> None:
    with running(Lab(login=("ann", "secret"))) as lab:
        with pytest.raises(LoginRefused, match="login refused: 535") as caught:
            connect(lab.port, login=Login("ann", "hunter2"))
        assert "hunter2" not in repr(caught.value) + repr(Login("ann", "hunter2"))


@pytest.mark.parametrize(
    ("login", "part"), [(Login("ann", "pässwort-77"), "password"), (Login("änn-secret-77", "x"), "username")]
)
def test_a_login_beyond_ascii_is_refused_in_one_line_that_does_not_show_it(login: Login, part: str) -> None:
    with running(Lab(login=("ann", "secret"))) as lab:
        with pytest.raises(LoginRefused) as caught:
            connect(lab.port, login=login)
        assert str(caught.value) == f"cannot log in: the {part} has characters beyond ASCII"
        assert "77" not in "".join(format_exception(caught.value))
        assert caught.value.__context__ is None


def test_a_login_where_none_is_offered_is_refused(lab: Lab) -> None:
    with pytest.raises(LoginRefused, match="cannot log in"):
        connect(lab.port, login=Login("ann", "secret"))


def test_credentials_never_go_out_in_clear_when_tls_is_asked_for() -> None:
    with running(FaultyLab()) as faulty:
        with pytest.raises(TlsFailed):
            connect(faulty.port, "StartTLS", Login("ann", "secret"))
        assert not [command for _, command in faulty.log if "AUTH" in command]
