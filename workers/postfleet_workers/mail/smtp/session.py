"""One SMTP session, from the first mail to the last (`opening` makes it). The final dot is a step of its own.

Between the body and the dot the caller is asked, so that 'the dot goes out now' is on record before it does: a failure
before that question is safe to try again, one after it leaves the mail unknown (RFC 1047). MAIL, RCPT and DATA go in
one packet where the server offers PIPELINING (RFC 2920). A transaction waits for nothing itself, see `transactions`.
"""

from __future__ import annotations

import smtplib
import ssl
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass

from postfleet_workers.clock import monotonic
from postfleet_workers.mail.errors import ConnectionLost
from postfleet_workers.mail.replies.reply import Phase, Reply, parse
from postfleet_workers.mail.smtp.wire import Wire

QUIT_SECONDS = 1.0
CLOSING = 421

# How long a client must at least be willing to wait for each answer, in seconds (RFC 5321 4.5.3.2).
PATIENCE = {
    Phase.CONNECT: 300.0,
    Phase.BANNER: 300.0,
    Phase.EHLO: 300.0,
    Phase.STARTTLS: 300.0,
    Phase.AUTH: 300.0,
    Phase.MAIL: 300.0,
    Phase.RCPT: 300.0,
    Phase.DATA: 120.0,
    Phase.BODY: 180.0,
    Phase.DOT: 600.0,
}


OPENING = frozenset({Phase.CONNECT, Phase.BANNER, Phase.EHLO, Phase.STARTTLS, Phase.AUTH})


@dataclass(frozen=True, slots=True)
class Timeouts:
    """The longest waits, in seconds, below `PATIENCE`: for a connection, a reply, the reply to the final dot.

    `opening` bounds each step before the first mail.
    """

    connect: float = 30.0
    reply: float = 300.0
    dot: float = 600.0
    opening: float = 300.0

    def of(self, phase: Phase) -> float:
        """How long to wait at this step."""
        most = {Phase.CONNECT: self.connect, Phase.DOT: self.dot}.get(phase, self.reply)
        return min(PATIENCE[phase], most, self.opening if phase in OPENING else most)


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply that decided over a mail, and the command it answered: `Phase.DOT`, or an earlier one that refused."""

    phase: Phase
    reply: Reply


Steps = Generator[float | None, bool, Answer | None]


class SmtpSession:
    """A connection ready for mail. Used by one thread at a time.

    Attributes:
        host: the server, as attempts name it.
        delivered: mails whose final dot was answered.
        usable: False once another mail must not be tried on it.
    """

    def __init__(self, wire: Wire, timeouts: Timeouts, host: str = "") -> None:
        self.host = host
        self._wire = wire
        self._waits = {phase: timeouts.of(phase) for phase in Phase}
        self._pipelining = wire.has_extn("pipelining")
        self._utf8 = wire.has_extn("smtputf8")
        self._size = wire.has_extn("size")
        self._open_transaction = False
        self.delivered = 0
        self.usable = True

    def transaction(self, sender: str, recipient: str, message: bytes) -> Steps:
        """Hand over one mail, step by step (RFC 5321 3.3).

        Args:
            sender: envelope sender.
            recipient: envelope recipient.
            message: the mail, CRLF line ends, ending in one.

        Yields:
            Until when to wait for the server to say something, on the monotonic clock. None: the final dot is next, and
            goes out if it is sent True; else nothing more is sent and the connection is closed.

        Returns:
            The deciding answer, or None when the dot was not to go out.

        Raises:
            ConnectionLost: closed or silent; with `Phase.DOT` nobody knows whether the mail was accepted.
        """
        phase = Phase.MAIL
        try:
            # Bodies are ASCII; what is not is an address, of the envelope or of a header.
            international = not (sender.isascii() and recipient.isascii() and message.isascii())
            if refused := (yield from self._envelope(sender, recipient, international, len(message))):
                return refused
            phase = Phase.BODY
            self._wire.wait_at_most(self._waits[phase])
            body = message.replace(b"\r\n.", b"\r\n..")
            self._wire.write(b"." + body if body.startswith(b".") else body)
            if self._wire.spoke():
                self.usable = False
                return Answer(phase, parse(*(yield from self._hear(phase))))
            if not (yield None):
                return None
            phase = Phase.DOT
            self._wire.wait_at_most(self._waits[phase])
            self._wire.write(b".\r\n")
            answer = Answer(phase, parse(*(yield from self._hear(phase))))
        except OSError as error:
            raise self._lost(phase, error) from error
        else:
            self.delivered += 1
            self._open_transaction = False
            return answer
        finally:
            if phase is not Phase.MAIL and self._open_transaction:
                self.abort()  # nothing but the end of the connection ends a body without a dot

    def fileno(self) -> int:
        """What to wait for until the server says something.

        Raises:
            OSError: the connection is closed.
        """
        return self._wire.fileno()

    def holds_more(self) -> bool:
        """Whether the server said something that waiting would not tell of."""
        return self._wire.holds_more()

    def alive(self) -> bool:
        """Whether an idle session can still be used: the server said nothing and closed nothing meanwhile."""
        if self.usable:
            try:
                self.usable = not self._wire.spoke()
            except OSError:
                self.usable = False
        return self.usable

    def close(self) -> None:
        """Say QUIT, if anyone listens, and close once the server has: until then it counts the connection as open."""
        with suppress(OSError):
            if self.usable:
                self._wire.wait_at_most(QUIT_SECONDS)
                self._wire.docmd("QUIT")
                self._wire.getreply()  # there is none: the server closes, or stays silent
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

    def _envelope(self, sender: str, recipient: str, international: bool, size: int) -> Steps:
        """MAIL, RCPT, DATA; the answer that refused one of them. `international`: it takes RFC 6531."""
        options = f" SIZE={size}" if self._size else ""  # RFC 1870: too big is said before it was sent
        if international:
            if not self._utf8:
                return Answer(Phase.MAIL, Reply(553, "5.6.7", "the server takes no international addresses"))
            options += " SMTPUTF8"
        commands = [(Phase.MAIL, "RSET\r\n")] if self._open_transaction else []
        commands += [
            (Phase.MAIL, f"MAIL FROM:<{sender}>{options}\r\n"),
            (Phase.RCPT, f"RCPT TO:<{recipient}>\r\n"),
            (Phase.DATA, "DATA\r\n"),
        ]
        self._open_transaction = True
        return (yield from self._talk(commands))

    def _talk(self, commands: list[tuple[Phase, str]]) -> Steps:
        """Say each command and hear its answer; the first that refused."""
        refused: Answer | None = None
        phase = Phase.MAIL
        try:
            self._wire.wait_at_most(self._waits[phase])
            if self._pipelining:
                self._wire.write("".join(command for _, command in commands).encode())
            for phase, command in commands:
                if not self._pipelining:
                    self._wire.write(command.encode())
                code, text = yield from self._hear(phase)
                if phase is Phase.DATA and code == 354:
                    if refused:
                        self.abort()  # it takes a body without a recipient: do not give it one
                elif refused is None and (phase is Phase.DATA or not 200 <= code <= 299):
                    refused = Answer(phase, parse(code, text))
                if not self.usable or (refused and not self._pipelining):
                    break
        except OSError as error:
            self.abort()
            if refused is None:
                raise self._lost(phase, error) from error
        except BaseException:  # replies may be unread: the next mail would take them for its own
            self.abort()
            raise
        return refused

    def _hear(self, phase: Phase) -> Generator[float, bool, tuple[int, bytes]]:
        until = monotonic() + self._waits[phase]
        while (reply := self._wire.reply()) is None:
            yield until
            self._wire.listen()
        code, _ = reply
        if code == CLOSING or code < 0:
            self.usable = False
        return reply

    def _lost(self, phase: Phase, error: OSError) -> ConnectionLost:
        return ConnectionLost(phase, reason_of(error), host=self.host)


def reason_of(error: OSError) -> str:
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
