"""The SMTP server at the return-path domains: takes mail to addresses that we signed, answers 250 when it is written.

Anything else is turned away at RCPT. Without PostgreSQL the answer is `451`, so that the sender keeps its report and
comes again. There are never more than `MOST_CONNECTIONS`: the oldest that gives no mail just now makes room. Of a mail
no more is kept than is read, so that all connections together need little.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import structlog
from aiosmtpd.smtp import SMTP, Envelope, Session
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from postfleet_workers.errors import InputError, StoreUnavailable
from postfleet_workers.inbound.recording import TooEarly, take
from postfleet_workers.inbound.reports import READ_BYTES
from postfleet_workers.mail import returnpath
from postfleet_workers.mail.tokens import Key
from postfleet_workers.metrics.inbound import InboundMetrics

log = structlog.get_logger(__name__)

CONNECTIONS = 2  # to PostgreSQL, and threads that use them
MOST_CONNECTIONS = 100
MOST_BYTES = 10 * 1024 * 1024
MOST_COMMANDS = 1_000  # of each verb in one connection; servers then connect anew
PIECE_BYTES = 64 * 1024  # of a line longer than that, as reports quote them, and which RFC 5321 does not know
IDLE_SECONDS = 300.0  # RFC 5321 4.5.3.2.7
PATIENCE_SECONDS = 60.0
LATER = "451 4.3.0 Try again later"
TOO_MUCH = "552 5.3.4 Too much"
ENDS = "421 4.3.2 Closing; come again"


class Listener:
    """The server and, as aiosmtpd wants it, the handler of its commands. Belongs to one event loop.

    Args:
        engine: PostgreSQL, with `CONNECTIONS` connections.
        key: what return paths are signed with.
        metrics: counts what comes.
        certificate: what STARTTLS is offered with; None offers none.
    """

    def __init__(
        self, engine: Engine, key: Key, metrics: InboundMetrics, certificate: Certificate | None = None
    ) -> None:
        self._engine = engine
        self._key = key
        self._metrics = metrics
        self._certificate = certificate
        self._threads = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="inbound")
        self._open: dict[_Smtp, None] = {}  # in the order of arrival
        self._taking: set[_Smtp] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._server: asyncio.Server | None = None
        metrics.connections.set_function(lambda: float(len(self._open)))

    async def start(self, listening: socket.socket) -> None:
        """Serve on a bound socket."""
        self._server = await asyncio.get_running_loop().create_server(self._connection, sock=listening)

    async def stop(self, seconds: float) -> None:
        """Take no more, let mails that are being taken have their answer, for at most so long, and hang up."""
        if self._server is not None:
            self._server.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._idle.wait()
        for connection in list(self._open):
            connection.hang_up()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def opened(self, connection: _Smtp) -> None:
        """A connection was made."""
        if len(self._open) >= MOST_CONNECTIONS:
            self._metrics.refused("connections")
            oldest = next((one for one in self._open if one not in self._taking), next(iter(self._open)))
            self.closed(oldest)
            oldest.hang_up()
        self._open[connection] = None

    def closed(self, connection: _Smtp) -> None:
        """A connection ended."""
        self._open.pop(connection, None)
        self.took(connection)

    def taking(self, connection: _Smtp) -> None:
        """A mail is on its way in."""
        self._taking.add(connection)
        self._idle.clear()

    def took(self, connection: _Smtp) -> None:
        """It has its answer."""
        self._taking.discard(connection)
        if not self._taking:
            self._idle.set()

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's names, and what it calls them with
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Offer no logins."""
        session.host_name = hostname
        return [line for line in responses if not line[4:].startswith("AUTH")]

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Take the addresses that we signed, one for each mail: a report is about one."""
        if _email_of(address, self._key) is None and not returnpath.is_feedback(address, self._key):
            self._metrics.refused("address")
            return "550 5.1.1 No such address here"
        if envelope.rcpt_tos:
            return "452 4.5.3 One recipient at a time"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def report(self, recipient: str, content: bytes, peer: str) -> str:
        """Write down what a mail says; 250 only after the commit."""
        work = asyncio.get_running_loop().run_in_executor(
            self._threads, take, self._engine, self._key, recipient, content
        )
        try:
            kind = await asyncio.wait_for(work, PATIENCE_SECONDS)
        except TooEarly:
            self._metrics.refused("early")
            return LATER
        except (StoreUnavailable, TimeoutError) as error:
            self._metrics.refused("postgresql")
            log.warning("inbound_put_off", error=str(error).splitlines()[0] if str(error) else "timed out")
            return LATER
        except DBAPIError:  # whatever it is, it was not written
            self._metrics.refused("postgresql")
            log.exception("inbound_put_off")
            return LATER
        self._metrics.took(kind)
        # The address itself would let whoever reads the log make up bounces.
        log.info("inbound", kind=kind, email_id=_email_of(recipient, self._key), peer=peer)
        return "250 2.0.0 OK"

    async def handle_exception(self, error: Exception) -> str:
        """A connection that failed; its peer may try again."""
        log.error("inbound_failed", error=f"{type(error).__name__}: {error}")
        return LATER

    def _connection(self) -> _Smtp:
        return _Smtp(
            self,
            data_size_limit=MOST_BYTES,
            enable_SMTPUTF8=True,
            hostname=socket.gethostname(),
            ident="Postfleet",
            tls_context=self._certificate.context() if self._certificate else None,
            timeout=IDLE_SECONDS,
            auth_exclude_mechanism=("LOGIN", "PLAIN"),
            command_call_limit=MOST_COMMANDS,
        )


def _email_of(address: str, key: Key) -> int | None:
    bounced = returnpath.read(address, key)
    return returnpath.read_unsubscribe(address, key) if bounced is None else bounced


class _Smtp(SMTP):
    """One connection."""

    line_length_limit = PIECE_BYTES

    def __init__(self, listener: Listener, **options: Any) -> None:
        self._listener = listener
        super().__init__(listener, loop=asyncio.get_running_loop(), **options)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin, or go on with TLS."""
        if self._original_transport is None:
            self._peer = str((transport.get_extra_info("peername") or ("",))[0])
            self._listener.opened(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """End."""
        self._listener.closed(self)
        super().connection_lost(error)

    def hang_up(self) -> None:
        """End now, whether the peer reads what it was told or not (RFC 5321 3.8: with a 421)."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.write(f"{ENDS}\r\n".encode())
            self.transport.abort()

    def _timeout_cb(self) -> None:
        self.hang_up()

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """Take a mail; returns when it has its answer. Not as aiosmtpd does it, which bounds no line in memory."""
        if arg:
            await self.push("501 Syntax: DATA")
            return
        if self.envelope is None or self.session is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT first")
            return
        self._listener.taking(self)
        try:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            size, content = await self._content()
            answer = TOO_MUCH
            if size <= MOST_BYTES:
                answer = await self._listener.report(self.envelope.rcpt_tos[0], content, self._peer)
            self.envelope = self._create_envelope()
            await self.push(answer)
        finally:
            self._listener.took(self)

    async def _content(self) -> tuple[int, bytes]:
        """How much came until a line with nothing but a dot, and the first `READ_BYTES` of it (RFC 5321 4.5.2)."""
        size, kept, begins = 0, bytearray(), True
        while True:
            try:
                piece = await self._reader.readuntil(b"\r\n")
            except asyncio.LimitOverrunError as error:
                piece = await self._reader.read(error.consumed)
            if begins and piece == b".\r\n":
                return size, bytes(kept)
            text = piece[1:] if begins and piece.startswith(b".") else piece
            size += len(text)
            kept += text[: READ_BYTES - len(kept)]
            begins = piece.endswith(b"\r\n")


class Certificate:
    """The certificate that STARTTLS is offered with, read again when its file changes.

    Raises:
        InputError: there is none, or the key is not its.
    """

    def __init__(self, chain: Path, key: Path | None) -> None:
        self._chain = chain
        self._key = key
        try:
            self._seen, self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"POSTFLEET_INBOUND_TLS_CERT={chain}: {error.strerror or error}") from None

    def context(self) -> ssl.SSLContext:
        """For the next connection. One that cannot be read leaves the one before it."""
        try:
            if self._chain.stat().st_mtime != self._seen:
                self._seen, self._context = self._load()
        except (OSError, ssl.SSLError) as error:
            log.warning("certificate_unreadable", file=str(self._chain), error=str(error))
        return self._context

    def _load(self) -> tuple[float, ssl.SSLContext]:
        """A context of its own: one whose loading failed half-way has a certificate and no key."""
        changed = self._chain.stat().st_mtime
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._chain, self._key, password="")  # else OpenSSL asks at the terminal
        return changed, context
