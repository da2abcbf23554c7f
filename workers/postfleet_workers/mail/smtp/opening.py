"""How an SMTP session is opened: connect, greet, secure, log in.

Opportunistic TLS takes any certificate, and where TLS fails a second connection goes on in clear (RFC 7435): whoever
sits between could as well have hidden that it is offered. Required TLS takes only a certificate that is trusted and
names the server, and a login never goes out without it.
"""

from __future__ import annotations

import errno
import smtplib
import socket
import ssl
from dataclasses import dataclass
from functools import cache

from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.errors import AddressMissing, LoginRefused, SmtpFault, TlsFailed, Unreachable
from postfleet_workers.mail.node import NodeSpec, Tls
from postfleet_workers.mail.replies.reply import Phase, parse
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts, reason_of
from postfleet_workers.mail.smtp.wire import Wire


@dataclass(frozen=True, slots=True)
class Server:
    """A server: its name, as its certificate must have it, and its address where that was looked up already."""

    name: str
    port: int
    address: str = ""

    @property
    def host(self) -> str:
        """As attempts name it."""
        return f"{self.name}[{self.address}]" if self.address else self.name

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


def connect(node: NodeSpec, login: Login | None, *, timeouts: Timeouts, tls: ssl.SSLContext) -> SmtpSession:
    """Open a session with the node's own server; see `open_session`."""
    return open_session(Server(node.host, node.port), node, login, timeouts=timeouts, tls=tls)


def open_session(
    server: Server,
    node: NodeSpec,
    login: Login | None = None,
    *,
    source: str = "",
    timeouts: Timeouts,
    tls: ssl.SSLContext,
) -> SmtpSession:
    """Open a session in the node's name.

    Args:
        server: where to.
        node: its `tls` and `helo` are used.
        login: what to log in with, if anything.
        source: local address to connect from; '' leaves it to the system.
        timeouts: how long to wait.
        tls: what to trust.

    Raises:
        Unreachable: no connection, or the server does not want us (now).
        TlsFailed: TLS is required and not offered, or its certificate is not to be trusted.
        LoginRefused: the server refuses the login or offers none.
        AddressMissing: `source` is not this machine's.
    """
    mode = Tls.STARTTLS if login and node.tls is Tls.OPPORTUNISTIC else node.tls
    try:
        return _open(_dial(server, source, timeouts), server, node.helo, mode, login, timeouts, tls)
    except TlsFailed:
        if mode is not Tls.OPPORTUNISTIC:
            raise
        return _open(_dial(server, source, timeouts), server, node.helo, Tls.NONE, login, timeouts, tls)


def _dial(server: Server, source: str, timeouts: Timeouts) -> socket.socket:
    try:
        plain = socket.create_connection(
            (server.address or server.name, server.port),
            timeout=timeouts.of(Phase.CONNECT),
            source_address=(source, 0) if source else None,
        )
    except OSError as error:
        if source and error.errno == errno.EADDRNOTAVAIL:
            text = f"cannot connect from {source} (identity.ipAddresses): it is no address of this machine"
            raise AddressMissing(Phase.CONNECT, text, host=server.host) from error
        raise Unreachable(Phase.CONNECT, f"{server}: {reason_of(error)}", host=server.host) from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


def _open(
    plain: socket.socket,
    server: Server,
    helo: str,
    mode: Tls,
    login: Login | None,
    timeouts: Timeouts,
    tls: ssl.SSLContext,
) -> SmtpSession:
    wire = Wire(plain, helo)
    try:
        wire.wait_at_most(timeouts.of(Phase.BANNER))
        _begin(wire, server, mode, login, tls)
    except BaseException as error:
        wire.close()
        if isinstance(error, SmtpFault):
            error.host = server.host
        raise
    return SmtpSession(wire, timeouts, server.host)


def _begin(wire: Wire, server: Server, mode: Tls, login: Login | None, tls: ssl.SSLContext) -> None:
    phase = Phase.CONNECT
    try:
        if mode is Tls.IMPLICIT:
            phase = Phase.STARTTLS
            wire.secure(tls, server.name)
        phase = Phase.BANNER
        _expect(wire.getreply(), phase)
        phase = Phase.EHLO
        _greet(wire)
        if mode in {Tls.STARTTLS, Tls.OPPORTUNISTIC}:
            phase = Phase.STARTTLS
            if _agree_on_tls(wire, server, mode):
                wire.secure(tls if mode is Tls.STARTTLS else _any_certificate(), server.name)
                phase = Phase.EHLO
                _greet(wire)
        if login is not None:
            phase = Phase.AUTH
            _log_in(wire, login)
    except SmtpFault:
        raise
    except OSError as error:
        raise _fault(phase, server, mode, error) from error


def _agree_on_tls(wire: Wire, server: Server, mode: Tls) -> bool:
    """Whether TLS begins now. Where it is required, no is an error."""
    required = mode is Tls.STARTTLS
    if not wire.has_extn("starttls"):
        if required:
            raise TlsFailed(Phase.STARTTLS, f"{server} does not offer STARTTLS, which tls: StartTLS requires")
        return False
    answer = wire.docmd("STARTTLS")
    if required:
        _expect(answer, Phase.STARTTLS)
    return parse(*answer).accepted


def _fault(phase: Phase, server: Server, mode: Tls, error: OSError) -> SmtpFault:
    if phase is Phase.STARTTLS and mode is Tls.OPPORTUNISTIC:
        return TlsFailed(phase, f"{server}: {reason_of(error)}")  # however it failed: without TLS it may work
    match error:
        case ssl.SSLEOFError():
            return Unreachable(phase, f"{server}: closed during the TLS handshake")
        case ssl.SSLError():
            return TlsFailed(phase, f"{server}: {reason_of(error)}")
        case _:
            return Unreachable(phase, f"{server}: {reason_of(error)}")


@cache
def _any_certificate() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _expect(answer: tuple[int, bytes], phase: Phase) -> None:
    reply = parse(*answer)
    if not reply.accepted:
        raise Unreachable(phase, f"refused at {phase}: {reply}", reply)


def _greet(wire: Wire) -> None:
    code, _ = wire.ehlo()
    if not 200 <= code <= 299:
        _expect(wire.helo(), Phase.EHLO)


def _log_in(wire: Wire, login: Login) -> None:
    for part, text in (("username", login.username), ("password", login.password)):
        if not text.isascii():  # smtplib's error for it would carry the text
            raise LoginRefused(Phase.AUTH, f"cannot log in: the {part} has characters beyond ASCII")
    try:
        wire.login(login.username, login.password)
    except smtplib.SMTPAuthenticationError as error:
        reply = parse(error.smtp_code, error.smtp_error)
        if 400 <= reply.code < 500:
            raise Unreachable(Phase.AUTH, f"cannot log in now: {reply}", reply) from None
        raise LoginRefused(Phase.AUTH, f"login refused: {reply}", reply) from None
    except smtplib.SMTPServerDisconnected:
        raise
    except smtplib.SMTPException as error:
        raise LoginRefused(Phase.AUTH, f"cannot log in: {error}") from None
