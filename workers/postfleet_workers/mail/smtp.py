"""One SMTP session: opened, used for many mails, closed. The final dot is a step of its own.

Between the body and the dot the caller is asked (`before_dot`), so that 'the dot goes out now' is on record before it
does: a failure before that question is safe to try again, one after it leaves the mail unknown (RFC 1047). MAIL, RCPT
and DATA go in one packet where the server offers PIPELINING (RFC 2920).
"""

from __future__ import annotations

import smtplib
import socket
import ssl
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from postfleet_workers.mail.credentials import Login
from postfleet_workers.mail.errors import ConnectionLost, LoginRefused, SmtpFault, TlsFailed, Unreachable
from postfleet_workers.mail.node import NodeSpec, Tls
from postfleet_workers.mail.reply import Phase, Reply, parse
from postfleet_workers.mail.wire import Wire

QUIT_SECONDS = 1.0
CLOSING = 421


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds: for a connection, a reply, the reply to the final dot (RFC 5321 4.5.3.2)."""

    connect: float = 30.0
    reply: float = 300.0
    dot: float = 600.0


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply that decided over a mail, and the command it answered: `Phase.DOT`, or an earlier one that refused."""

    phase: Phase
    reply: Reply


class SmtpSession:
    """A connection ready for mail. Used by one thread at a time.

    Attributes:
        delivered: mails whose final dot was answered.
        usable: False once another mail must not be tried on it.
    """

    def __init__(self, wire: Wire, timeouts: Timeouts) -> None:
        self._wire = wire
        self._timeouts = timeouts
        self._pipelining = wire.has_extn("pipelining")
        self._utf8 = wire.has_extn("smtputf8")
        self._open_transaction = False
        self.delivered = 0
        self.usable = True

    def deliver(self, *, sender: str, recipient: str, message: bytes, before_dot: Callable[[], bool]) -> Answer | None:
        """Hand over one mail.

        Args:
            sender: envelope sender.
            recipient: envelope recipient.
            message: the mail, CRLF line ends, ending in one.
            before_dot: asked right before the final dot. False: nothing more is sent and the connection is closed.

        Returns:
            The deciding answer, or None when `before_dot` said no.

        Raises:
            ConnectionLost: closed or silent; with `Phase.DOT` nobody knows whether the mail was accepted.
        """
        phase = Phase.MAIL
        try:
            if refused := self._envelope(sender, recipient):
                return refused
            phase = Phase.BODY
            body = message.replace(b"\r\n.", b"\r\n..")
            self._wire.write(b"." + body if body.startswith(b".") else body)
            if self._wire.spoke():
                self.usable = False
                return Answer(phase, parse(*self._wire.getreply()))
            if not before_dot():
                return None
            phase = Phase.DOT
            self._wire.wait_at_most(self._timeouts.dot)
            self._wire.write(b".\r\n")
            answer = self._answer(phase)
            self._wire.wait_at_most(self._timeouts.reply)
        except OSError as error:
            raise ConnectionLost(phase, _reason(error)) from error
        else:
            self.delivered += 1
            self._open_transaction = False
            return answer
        finally:
            if phase is not Phase.MAIL and self._open_transaction:
                self.abort()  # nothing but the end of the connection ends a body without a dot

    def alive(self) -> bool:
        """Whether an idle session can still be used: the server said nothing and closed nothing meanwhile."""
        if self.usable:
            try:
                self.usable = not self._wire.spoke()
            except OSError:
                self.usable = False
        return self.usable

    def close(self) -> None:
        """Say QUIT, if anyone listens, and close."""
        with suppress(OSError):
            if self.usable:
                self._wire.wait_at_most(QUIT_SECONDS)
                self._wire.docmd("QUIT")
        self.abort()

    def leave(self) -> None:
        """Say QUIT and close, without waiting for anything."""
        with suppress(OSError):
            if self.usable:
                self._wire.wait_at_most(0)
                self._wire.write(b"QUIT\r\n")
        self.abort()

    def abort(self) -> None:
        """Close without a word."""
        self.usable = False
        self._wire.close()

    def _envelope(self, sender: str, recipient: str) -> Answer | None:
        """MAIL, RCPT, DATA; the answer that refused one of them."""
        options = ""
        if not (sender.isascii() and recipient.isascii()):
            if not self._utf8:
                return Answer(Phase.MAIL, Reply(553, "5.6.7", "the server takes no international addresses"))
            options = " SMTPUTF8"
        steps = [(Phase.MAIL, "RSET\r\n")] if self._open_transaction else []
        steps += [
            (Phase.MAIL, f"MAIL FROM:<{sender}>{options}\r\n"),
            (Phase.RCPT, f"RCPT TO:<{recipient}>\r\n"),
            (Phase.DATA, "DATA\r\n"),
        ]
        self._open_transaction = True
        return self._talk(steps)

    def _talk(self, steps: list[tuple[Phase, str]]) -> Answer | None:
        """Say each command and hear its answer; the first that refused."""
        refused: Answer | None = None
        phase = Phase.MAIL
        try:
            if self._pipelining:
                self._wire.write("".join(command for _, command in steps).encode())
            for phase, command in steps:
                if not self._pipelining:
                    self._wire.write(command.encode())
                answer = self._answer(phase)
                if phase is Phase.DATA and answer.reply.code == 354:
                    if refused:
                        self.abort()  # it takes a body without a recipient: do not give it one
                elif refused is None and (phase is Phase.DATA or not answer.reply.accepted):
                    refused = answer
                if not self.usable or (refused and not self._pipelining):
                    break
        except OSError as error:
            self.abort()
            if refused is None:
                raise ConnectionLost(phase, _reason(error)) from error
        return refused

    def _answer(self, phase: Phase) -> Answer:
        reply = parse(*self._wire.getreply())
        if reply.code == CLOSING or reply.code < 0:
            self.usable = False
        return Answer(phase, reply)


def connect(node: NodeSpec, login: Login | None, *, timeouts: Timeouts, tls: ssl.SSLContext) -> SmtpSession:
    """Open a session: connect, greet, secure, log in.

    Raises:
        Unreachable: no connection, or the server does not want us (now).
        TlsFailed: TLS is required and not offered, or its certificate is not to be trusted.
        LoginRefused: the server refuses the login or offers none.
    """
    try:
        plain = socket.create_connection((node.host, node.port), timeout=timeouts.connect)
    except OSError as error:
        raise Unreachable(Phase.CONNECT, f"{node.host}:{node.port}: {_reason(error)}") from error
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    wire = Wire(plain, node.helo)
    try:
        _open(wire, node, login, tls)
        wire.wait_at_most(timeouts.reply)
    except BaseException:
        wire.close()
        raise
    return SmtpSession(wire, timeouts)


def _open(wire: Wire, node: NodeSpec, login: Login | None, tls: ssl.SSLContext) -> None:
    phase = Phase.CONNECT
    try:
        if node.tls is Tls.IMPLICIT:
            phase = Phase.STARTTLS
            wire.secure(tls, node.host)
        phase = Phase.BANNER
        _expect(wire.getreply(), phase)
        phase = Phase.EHLO
        _greet(wire)
        if node.tls is Tls.STARTTLS:
            phase = Phase.STARTTLS
            if not wire.has_extn("starttls"):
                raise TlsFailed(phase, f"{node.host}:{node.port} does not offer STARTTLS, which tls: StartTLS requires")
            _expect(wire.docmd("STARTTLS"), phase)
            wire.secure(tls, node.host)
            phase = Phase.EHLO
            _greet(wire)
        if login is not None:
            phase = Phase.AUTH
            _log_in(wire, login)
    except SmtpFault:
        raise
    except ssl.SSLEOFError as error:
        raise Unreachable(phase, f"{node.host}:{node.port}: closed during the TLS handshake") from error
    except ssl.SSLError as error:
        raise TlsFailed(phase, f"{node.host}:{node.port}: {_reason(error)}") from error
    except OSError as error:
        raise Unreachable(phase, f"{node.host}:{node.port}: {_reason(error)}") from error


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


def _reason(error: OSError) -> str:
    """An OSError in a few words."""
    match error:
        case TimeoutError():
            return "timed out"
        case ssl.SSLCertVerificationError():
            return f"certificate not trusted: {error.verify_message}"
        case smtplib.SMTPException():
            return str(error)
        case _:
            return error.strerror or str(error) or type(error).__name__
