"""The connection under an SMTP session: smtplib's EHLO and AUTH over a reply reader of our own.

smtplib reads replies through a buffered file that cannot be asked whether the server has said something already, and
makes one exception of a closed and of a silent connection. Here a reply is read from the socket, and `spoke()` looks
without waiting. Every failure is an OSError (smtplib's exceptions are).
"""

from __future__ import annotations

import smtplib
import socket
import ssl

MAX_LINE = 8192
MAX_LINES = 200


class Wire(smtplib.SMTP):
    """One TCP connection that speaks SMTP."""

    def __init__(self, connected: socket.socket, helo: str) -> None:
        super().__init__(local_hostname=helo)
        self.sock = connected
        self._buffer = bytearray()

    def getreply(self) -> tuple[int, bytes]:
        """The next reply: its code (-1 if it is none) and its lines, joined by a line feed.

        Raises:
            OSError: the connection is closed (SMTPServerDisconnected) or silent (TimeoutError).
        """
        lines: list[bytes] = []
        for _ in range(MAX_LINES):
            line = self._line()
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
        """Bound every following read and write."""
        self._socket().settimeout(seconds)

    def write(self, octets: bytes) -> None:
        """Send all of it."""
        self._socket().sendall(octets)

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

    def _line(self) -> bytes:
        while (end := self._buffer.find(b"\n")) < 0:
            if len(self._buffer) > MAX_LINE:
                raise smtplib.SMTPServerDisconnected("a reply line without an end")
            self._fill()
        line = bytes(self._buffer[: end + 1])
        del self._buffer[: end + 1]
        return line

    def _fill(self) -> None:
        octets = self._socket().recv(4096)
        if not octets:
            raise smtplib.SMTPServerDisconnected("the server closed the connection")
        self._buffer += octets
