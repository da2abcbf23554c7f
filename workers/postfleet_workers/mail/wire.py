"""The connection under an SMTP session: smtplib's EHLO and AUTH over a reply reader of our own.

smtplib reads replies through a buffered file that cannot be asked whether the server has said something already, and
makes one exception of a closed and of a silent connection. Here a reply is read from the socket, and `spoke()` looks
without waiting. Every failure is an OSError (smtplib's exceptions are).
"""

from __future__ import annotations

import smtplib
import socket
import ssl

from postfleet_workers.clock import monotonic

MAX_LINE = 8192
MAX_LINES = 200
BLOCK = 65_536


class Wire(smtplib.SMTP):
    """One TCP connection that speaks SMTP."""

    def __init__(self, connected: socket.socket, helo: str) -> None:
        super().__init__(local_hostname=helo)
        self.sock = connected
        self._buffer = bytearray()

    def getreply(self) -> tuple[int, bytes]:
        """The next reply: its code (-1 if it is none) and its lines, joined by a line feed.

        Raises:
            OSError: the connection is closed (SMTPServerDisconnected) or the reply not whole in time (TimeoutError).
        """
        lines: list[bytes] = []
        until = monotonic() + (self._socket().gettimeout() or 0)
        for _ in range(MAX_LINES):
            line = self._line(until)
            lines.append(line[4:].strip())
            if not line[:3].isdigit() or line[3:4] not in b"- ":
                return -1, line.strip()
            if line[3:4] != b"-":
                return int(line[:3]), b"\n".join(lines)
        raise smtplib.SMTPServerDisconnected("a reply without an end")

    def spoke(self) -> bool:
        """Whether the server has sent something, or closed the connection, without being asked.

        Raises:
            OSError: it closed the connection.
        """
        sock = self._socket()
        timeout = sock.gettimeout()
        sock.settimeout(0)
        try:
            self._fill()
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        finally:
            sock.settimeout(timeout)
        return bool(self._buffer)

    def wait_at_most(self, seconds: float) -> None:
        """Bound every following reply, and every block of a write."""
        sock = self._socket()
        if sock.gettimeout() != seconds:
            sock.settimeout(seconds)

    def write(self, octets: bytes) -> None:
        """Send all of it."""
        sock = self._socket()
        if len(octets) <= BLOCK:
            sock.sendall(octets)
            return
        whole = memoryview(octets)
        for start in range(0, len(whole), BLOCK):
            sock.sendall(whole[start : start + BLOCK])

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Start TLS on this connection and forget what was said in clear.

        Raises:
            OSError: no TLS, or none to trust (ssl.SSLError).
        """
        if self._buffer:
            raise ssl.SSLError("the server sent data before TLS began")  # injected commands, CVE-2011-0411
        self.sock = context.wrap_socket(self._socket(), server_hostname=host)
        self.ehlo_resp = self.helo_resp = None
        self.esmtp_features = {}
        self.does_esmtp = False

    def _socket(self) -> socket.socket:
        if self.sock is None:
            raise smtplib.SMTPServerDisconnected("the connection is closed")
        return self.sock

    def _line(self, until: float) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise smtplib.SMTPServerDisconnected("a reply line without an end")
            self._fill()
            if monotonic() > until:  # a byte now and then keeps nobody waiting for ever
                raise TimeoutError
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _fill(self) -> None:
        octets = self._socket().recv(4096)
        if not octets:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        self._buffer += octets
