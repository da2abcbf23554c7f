"""SMTP servers for tests: what they accept is on record, and they fail exactly where they are told to.

`FaultyLab` is a plain socket server that drops the connection, stalls or answers anything at any phase, which aiosmtpd
(`mail_lab`) cannot; `provider_lab` makes it a provider with limits. All append to `accepted` when they take
responsibility for a mail, and to `log` in the order in which things reach them. Several stand at the same port of
127.0.0.2, 127.0.0.3 …, as MX hosts do.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from enum import StrEnum
from typing import Any

HOST = "127.0.0.1"


@dataclass(frozen=True)
class Accepted:
    """A mail that a server answered 250 to (or would have, had it not dropped the connection)."""

    recipient: str
    sender: str
    message_id: str
    email_id: int
    at: float
    data: bytes

    @classmethod
    def of(cls, sender: str, recipient: str, data: bytes) -> Accepted:
        message = message_from_bytes(data, policy=policy.default)
        email_id = int((message["X-Postfleet-Email"] or "0").partition(".")[0])  # signed where there is a key
        return cls(recipient, sender, str(message["Message-ID"]), email_id, time.time(), data)


class Phase(StrEnum):
    """Where a `FaultyLab` fails: before answering this. `BODY` is within the body, `DOT` after all of it, `REPLIED`
    after the 250."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"
    REPLIED = "replied"
    QUIT = "quit"


@dataclass
class Fault:
    """What to do instead of the right thing. One of: drop; stall until `release`; `reply`, then `drop` or go on."""

    drop: bool = False
    reply: str | None = None
    release: threading.Event | None = None
    reached: threading.Event = field(default_factory=threading.Event)


class Dropped(Exception):  # noqa: N818 - control flow
    """The server ends this connection."""


class FaultyLab:
    """A small SMTP server with faults. `fail(phase, …)` arms the next one to get there; each fault fires once.

    With `tls` it offers STARTTLS; `tls_fault` is what it does instead: `refuse` it, or `drop` within the handshake.
    """

    def __init__(
        self,
        *,
        pipelining: bool = False,
        utf8: bool = False,
        log: list[tuple[str, Any]] | None = None,
        tls: ssl.SSLContext | None = None,
        tls_fault: str = "",
        host: str = HOST,
        port: int = 0,
    ) -> None:
        self.tls = tls
        self.tls_fault = tls_fault
        self.secured = 0
        self.sources: list[str] = []
        self.accepted: list[Accepted] = []
        self.log: list[tuple[str, Any]] = log if log is not None else []
        self.connections = 0
        self._offers = ["lab"] + ["PIPELINING"] * pipelining + ["SMTPUTF8"] * utf8 + ["8BITMIME"]
        self._offers[1:1] = ["STARTTLS"] * (tls is not None)
        self._faults: dict[Phase, list[Fault]] = {}
        self._listener = socket.create_server((host, port))
        # Little fits on the way: who is still writing a body when the server drops it gets to know.
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.port: int = self._listener.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._stopping = False
        self._threads = [threading.Thread(target=self._listen, daemon=True)]
        self._threads[0].start()

    def fail(
        self, phase: Phase, *, drop: bool = False, reply: str | None = None, release: threading.Event | None = None
    ) -> Fault:
        """Arm a fault; returns it, so that a test can wait until it is `reached`."""
        fault = Fault(drop, reply, release)
        self._faults.setdefault(phase, []).append(fault)
        return fault

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for faults in self._faults.values():
            for fault in faults:
                if fault.release:
                    fault.release.set()
        self.hang_up()
        for thread in self._threads:
            thread.join(timeout=5)

    def hang_up(self) -> None:
        """Close every open connection."""
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        while not self._stopping:
            try:
                connection, (source, _) = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self.sources.append(source)
            self._open.add(connection)
            thread = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, Dropped):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            conversation = Conversation(self, connection, self._offers)
            try:
                conversation.run()
            finally:
                self.ended(conversation)
                conversation.close()
        self._open.discard(connection)

    def ended(self, conversation: Conversation) -> None:
        """A connection is over; see `provider_lab`."""

    def judge(self, phase: Phase, conversation: Conversation) -> str | None:
        """What to answer at a phase instead of the usual; see `provider_lab`."""
        return None

    def reach(self, phase: Phase, say: Callable[[str], None]) -> bool:
        """Run into the fault armed for this phase, if any; whether it has answered in place of the server."""
        waiting = self._faults.get(phase)
        if not waiting:
            return False
        fault = waiting.pop(0)
        fault.reached.set()
        if fault.release is not None:
            fault.release.wait(30)
        if fault.reply is not None:
            say(fault.reply)
        if fault.drop:
            raise Dropped
        return fault.reply is not None


class Conversation:
    """One connection to a `FaultyLab`."""

    def __init__(self, lab: FaultyLab, connection: socket.socket, offers: list[str]) -> None:
        self._lab = lab
        self._connection = connection
        self._file = connection.makefile("rb")
        self._offers = offers
        self.source: str = connection.getpeername()[0]
        self.sender = self.recipient = ""

    def run(self) -> None:
        self._at(Phase.CONNECT, None)
        self._at(Phase.BANNER, "220 lab ESMTP")
        sender = recipient = ""
        while line := self._file.readline():
            command = line.decode("utf-8", "replace").strip()
            word = command.upper().split(" ")[0].split(":")[0]
            self._lab.log.append(("command", command))
            match word:
                case "EHLO" | "HELO":
                    lines = [f"250{' ' if i == len(self._offers) - 1 else '-'}{o}" for i, o in enumerate(self._offers)]
                    self._at(Phase.EHLO, "\r\n".join(lines))
                case "STARTTLS" if self._lab.tls and self._lab.tls_fault == "refuse":
                    self._say("454 4.7.0 TLS not available")
                case "STARTTLS" if self._lab.tls:
                    self._say("220 2.0.0 go on")
                    self._secure(self._lab.tls)
                case "MAIL":
                    sender = self.sender = command.partition("<")[2].partition(">")[0]
                    self._at(Phase.MAIL, "250 2.1.0 ok")
                case "RCPT":
                    wanted = self.recipient = command.partition("<")[2].partition(">")[0]
                    recipient = wanted if self._at(Phase.RCPT, "250 2.1.5 ok") else ""
                case "DATA" if not recipient:
                    self._say("503 5.5.1 no valid recipients")
                case "DATA":
                    if self._at(Phase.DATA, "354 go on"):
                        self._take(sender, recipient)
                    sender = recipient = ""
                case "RSET":
                    sender = recipient = ""
                    self._say("250 2.0.0 ok")
                case "QUIT":
                    self._at(Phase.QUIT, "221 bye")
                    return
                case _:
                    self._say("502 5.5.2 what?")

    def close(self) -> None:
        self._file.close()
        self._connection.close()

    def _take(self, sender: str, recipient: str) -> None:
        body = []
        while (line := self._file.readline()) != b".\r\n":
            if not line:
                raise Dropped
            body.append(line[1:] if line.startswith(b".") else line)
            if len(body) == 3 and self._lab.reach(Phase.BODY, self._say):
                raise Dropped
        mail = Accepted.of(sender, recipient, b"".join(body))
        self._lab.log.append(("dot", mail.message_id))
        if self._lab.reach(Phase.DOT, self._say) or self._judged(Phase.DOT):
            return
        self._lab.accepted.append(mail)
        self._say(f"250 2.0.0 ok queued as {len(self._lab.accepted)}")
        self._lab.reach(Phase.REPLIED, self._say)

    def _at(self, phase: Phase, answer: str | None) -> bool:
        """Answer as usual, unless a fault is armed; whether the usual answer was given."""
        if self._lab.reach(phase, self._say) or self._judged(phase):
            return False
        if answer is not None:
            self._say(answer)
        return True

    def _judged(self, phase: Phase) -> bool:
        """Whether the lab answered in its own way, ending the connection if it said 421."""
        answer = self._lab.judge(phase, self)
        if answer is None:
            return False
        self._say(answer)
        if answer.startswith("421"):
            raise Dropped
        return True

    def _secure(self, tls: ssl.SSLContext) -> None:
        if self._lab.tls_fault == "drop":
            self._connection.recv(1)
            raise Dropped
        self._connection = tls.wrap_socket(self._connection, server_side=True)
        self._file = self._connection.makefile("rb")
        self._offers = [offer for offer in self._offers if offer != "STARTTLS"]
        self._lab.secured += 1

    def _say(self, text: str) -> None:
        self._connection.sendall(text.encode() + b"\r\n")


@contextmanager
def running(lab: Any) -> Iterator[Any]:
    """Stop the lab at the end."""
    try:
        yield lab
    finally:
        lab.stop()


def wait_for(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until the condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        threading.Event().wait(0.01)
