"""The connection under an SMTP session: smtplib's EHLO and AUTH over a reply reader of our own.

smtplib reads replies through a buffered file that cannot be asked whether the server has said something already, and
makes one exception of a closed and of a silent connection. Here a reply is read from the socket, and `spoke()` looks
without waiting. Every failure is an OSError (smtplib's exceptions are).

A socket with a timeout of Python's own asks the kernel before each call whether it may be made. Of a connection in
clear the kernel keeps the time, in ticks; the rest of a wait is counted here.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import struct

from postfleet_workers.clock import monotonic

MAX_LINE = 8192
MAX_LINES = 200
MAX_REPLY = 16_384  # what is kept of it: nobody needs more, and `reply.parse` remembers many
RECEIVED = 4096
BLOCK = 65_536
TICK_SECONDS = 1.0


class Wire(smtplib.SMTP):
    """One TCP connection that speaks SMTP."""

    def __init__(self, connected: socket.socket, helo: str) -> None:
        super().__init__(local_hostname=helo)
        self.sock = connected
        self._buffer = bytearray()
        self._patience = connected.gettimeout() or 0.0
        self._tick = float("inf")
        self._clear = type(connected) is socket.socket
        if self._clear:
            connected.settimeout(None)
            self._keep_time(TICK_SECONDS)

    def getreply(self) -> tuple[int, bytes]:
        """The next reply, waited for: its code (-1 if it is none) and its lines, joined by a line feed.

        Raises:
            OSError: the connection is closed (SMTPServerDisconnected) or the reply not whole in time (TimeoutError).
        """
        until = monotonic() + self._patience
        while (reply := self.reply()) is None:
            if monotonic() > until:  # a byte now and then keeps nobody waiting for ever
                raise TimeoutError
            try:  # noqa: SIM105 - a `with` would cost more than the call
                self._take(self._socket().recv(RECEIVED))
            except BlockingIOError:
                pass  # a tick
        return reply

    def reply(self) -> tuple[int, bytes] | None:
        """The next reply, if it is here as a whole.

        Raises:
            OSError: what is here can be none (SMTPServerDisconnected).
        """
        buffer = self._buffer
        lines: list[bytes] = []
        start = 0
        while (end := buffer.find(b"\n", start)) >= 0:
            line = bytes(buffer[start : end + 1])
            start = end + 1
            lines.append(line[4:].strip())
            code = -1
            if not line[:3].isdigit() or line[3:4] not in b"- ":
                lines = [line.strip()]
            elif line[3:4] == b"-":
                continue
            else:
                code = int(line[:3])
            del buffer[:start]
            return code, b"\n".join(lines)[:MAX_REPLY]
        if len(lines) >= MAX_LINES:
            raise smtplib.SMTPServerDisconnected("a reply without an end")
        if len(buffer) - start > MAX_LINE:
            raise smtplib.SMTPServerDisconnected("a reply line without an end")
        return None

    def spoke(self) -> bool:
        """Whether the server has sent something, or closed the connection, without being asked.

        Raises:
            OSError: it closed the connection.
        """
        self.listen()
        return bool(self._buffer)

    def listen(self) -> None:
        """Read what has come, without waiting.

        Raises:
            OSError: the connection is closed.
        """
        sock = self._socket()
        try:
            if self._clear:
                self._take(sock.recv(RECEIVED, socket.MSG_DONTWAIT))
            else:
                sock.settimeout(0)
                self._take(sock.recv(RECEIVED))
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            if not self._clear:
                sock.settimeout(self._patience)

    def fileno(self) -> int:
        """What to wait for until the server says something.

        Raises:
            OSError: the connection is closed.
        """
        return self._socket().fileno()

    def holds_more(self) -> bool:
        """Whether something is here that waiting would not tell of: TLS decrypts a record at a time."""
        sock = self.sock
        return isinstance(sock, ssl.SSLSocket) and sock.pending() > 0

    def wait_at_most(self, seconds: float) -> None:
        """Bound every following reply, and every block of a write."""
        if seconds == self._patience:
            return
        self._patience = seconds
        if not self._clear:
            self._socket().settimeout(seconds)
        elif 0 < seconds < self._tick:
            self._keep_time(seconds)

    def write(self, octets: bytes) -> None:
        """Send all of it."""
        sock = self._socket()
        if len(octets) > BLOCK:
            self._write_blocks(sock, octets)
        elif self._clear:
            self._push(sock, octets)
        else:
            sock.sendall(octets)

    def send(self, s: str | bytes) -> None:  # type: ignore[override]
        """What smtplib sends."""
        self.write(s.encode("ascii") if isinstance(s, str) else s)

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS on this connection and forget what was said in clear.

        Raises:
            OSError: no TLS, or none to trust (ssl.SSLError).
        """
        if self._buffer:
            raise ssl.SSLError("the server sent data before TLS began")  # injected commands, CVE-2011-0411
        plain = self._socket()
        if self._clear:
            plain.settimeout(self._patience)
            self._clear = False
        self.sock = context.wrap_socket(plain, server_hostname=host)
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        return self.sock

    def _keep_time(self, seconds: float) -> None:
        self._tick = seconds
        whole, rest = divmod(max(round(seconds * 1e6), 1), 1_000_000)
        for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            self._socket().setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", whole, rest))

    def _write_blocks(self, sock: socket.socket, octets: bytes) -> None:
        """With Python's timeouts, which bound each block, and hand the kernel no more than it likes to keep."""
        if self._clear:
            sock.settimeout(self._patience)
        try:
            whole = memoryview(octets)
            for start in range(0, len(whole), BLOCK):
                sock.sendall(whole[start : start + BLOCK])
        finally:
            if self._clear:
                sock.settimeout(None)

    def _push(self, sock: socket.socket, octets: bytes | memoryview) -> None:
        flags = 0 if self._patience else socket.MSG_DONTWAIT
        until = monotonic() + self._patience
        while octets:
            try:
                sent = sock.send(octets, flags)
            except BlockingIOError:
                if monotonic() >= until:
                    raise TimeoutError from None
                continue
            if sent == len(octets):
                return
            octets = memoryview(octets)[sent:]
            until = monotonic() + self._patience

    def _take(self, octets: bytes) -> None:
        if not octets:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        self._buffer += octets
