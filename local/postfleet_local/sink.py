"""An SMTP server that answers like a provider: it takes its time over each message and owns a mail once the dot came.

A program of its own (`python -m postfleet_local.sink`), so that a fleet's workers talk to a real server over real
sockets. Before `250` goes out for a message, one line of it is appended to the log, which `tally` reads; a client that
vanishes after its final dot has delivered all the same (RFC 1047). Delays come from a seeded generator. Run it alone to
catch mail by hand; `--help` tells the options. It imports nothing of the other packages and starts in a blink.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import os
import random
import re
import resource
import signal
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LINE_LIMIT = 4096
SIZE_LIMIT = 10 * 1024 * 1024
_HEADER = re.compile(rb"^(message-id|x-postfleet-email):\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_ADDRESS = re.compile(rb"^(?:FROM|TO):\s*<([^>]*)>", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Manners:
    """How the server answers.

    Attributes:
        delay_min_seconds: shortest wait before the answer to a final dot.
        delay_max_seconds: longest one; the waits are spread evenly between the two.
        username: the only login that is let in; empty lets in any.
        password: its password.
        require_auth: refuse mail from a client that did not log in (530).
        defer_fraction: so many of the recipients are put off the first time (450), as by greylisting.
        bounce_fraction: so many of them do not exist (550). Which ones hangs on the address alone.
    """

    delay_min_seconds: float = 0.0
    delay_max_seconds: float = 0.0
    username: str = ""
    password: str = ""
    require_auth: bool = False
    defer_fraction: float = 0.0
    bounce_fraction: float = 0.0

    def bounces(self, recipient: str) -> bool:
        """Whether there is no such recipient."""
        return _share(recipient) < self.bounce_fraction

    def defers(self, recipient: str) -> bool:
        """Whether the recipient's first mail is put off."""
        return self.bounce_fraction <= _share(recipient) < self.bounce_fraction + self.defer_fraction


def _share(recipient: str) -> float:
    """A number in [0, 1) that is the address's own."""
    return zlib.crc32(recipient.lower().encode()) / 2**32


class Post:
    """What all connections share: the log, the generator of delays and the count of mails."""

    def __init__(self, log: int, manners: Manners, seed: int) -> None:
        self.manners = manners
        self.accepted = 0
        self._log = log
        self._put_off: set[str] = set()
        self._random = random.Random(seed)  # noqa: S311 - delays, not secrets

    def delay(self) -> float:
        """Seconds that the next message takes."""
        return self._random.uniform(self.manners.delay_min_seconds, self.manners.delay_max_seconds)

    def refusal(self, recipient: str) -> str:
        """What is answered to a recipient that is not taken now; empty for one that is."""
        if self.manners.bounces(recipient):
            return f"550 5.1.1 <{recipient}>: no such user here"
        if self.manners.defers(recipient) and recipient not in self._put_off:
            self._put_off.add(recipient)
            return "450 4.2.0 Greylisted, try again later"
        return ""

    def accept(self, content: bytes, recipients: list[str]) -> int:
        """Write the mail down and return its number. One `write` of one line per recipient: readers see whole lines."""
        headers = content.partition(b"\r\n\r\n")[0]
        found = {name.lower(): value.decode("ascii", "replace") for name, value in _HEADER.findall(headers)}
        message_id, email = found.get(b"message-id", "-"), found.get(b"x-postfleet-email", "-")
        at = f"{time.time():.6f}"
        lines = "".join(f"{at}\t{message_id}\t{email}\t{recipient}\n" for recipient in recipients)
        os.write(self._log, lines.encode())
        self.accepted += 1
        return self.accepted


class Session(asyncio.Protocol):
    """One connection. Commands may come pipelined (RFC 2920); while a message waits for its answer, input waits too."""

    def __init__(self, post: Post) -> None:
        self.post = post
        self.buffer = bytearray()
        self.transport: asyncio.Transport | None = None
        self.busy = False
        self.in_data = False
        self.logged_in = False
        self.sender: bytes | None = None
        self.recipients: list[str] = []
        self.prompt: Callable[[bytes], None] | None = None
        self.user = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self.transport = transport  # type: ignore[assignment]
        self.reply("220 sink.postfleet.local ESMTP Postfleet sink")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection; a message whose dot came stays accepted."""
        self.transport = None

    def data_received(self, data: bytes) -> None:
        """Take more input."""
        self.buffer += data
        self.pump()

    def reply(self, text: str) -> None:
        """Send one answer, unless the client has gone."""
        if self.transport is not None:
            self.transport.write(text.encode() + b"\r\n")

    def pump(self) -> None:
        """Work through what has arrived, up to a message that takes its time."""
        while not self.busy:
            if self.in_data:
                if not self.take_message():
                    return
                continue
            line, newline, _ = self.buffer.partition(b"\n")
            if len(line) > LINE_LIMIT:
                self.reply("500 5.5.2 Line too long")
                self.close()
                return
            if not newline:
                return
            del self.buffer[: len(line) + 1]
            self.command(bytes(line).rstrip(b"\r"))

    def command(self, line: bytes) -> None:
        """Obey one command line."""
        if self.prompt is not None:
            prompt, self.prompt = self.prompt, None
            prompt(line)
            return
        verb, _, argument = line.partition(b" ")
        match verb.upper():
            case b"EHLO":
                self.reset()
                offers = "PIPELINING", "8BITMIME", "SMTPUTF8", f"SIZE {SIZE_LIMIT}", "AUTH PLAIN LOGIN"
                names = "sink.postfleet.local", *offers
                self.reply("\r\n".join(f"250-{name}" for name in names) + "\r\n250 ENHANCEDSTATUSCODES")
            case b"HELO":
                self.reset()
                self.reply("250 sink.postfleet.local")
            case b"MAIL":
                self.mail(argument)
            case b"RCPT":
                self.rcpt(argument)
            case b"DATA":
                if not self.recipients:
                    self.reply("503 5.5.1 RCPT first")
                else:
                    self.in_data = True
                    self.reply("354 End data with <CR><LF>.<CR><LF>")
            case b"RSET":
                self.reset()
                self.reply("250 2.0.0 Ok")
            case b"NOOP" | b"VRFY":
                self.reply("250 2.0.0 Ok")
            case b"AUTH":
                self.auth(argument)
            case b"QUIT":
                self.reply("221 2.0.0 Bye")
                self.close()
            case _:
                self.reply("502 5.5.2 Command not recognized")

    def mail(self, argument: bytes) -> None:
        """MAIL FROM."""
        found = _ADDRESS.match(argument)
        if self.post.manners.require_auth and not self.logged_in:
            self.reply("530 5.7.0 Authentication required")
        elif self.sender is not None:
            self.reply("503 5.5.1 Nested MAIL")
        elif not found:
            self.reply("501 5.5.4 Syntax: MAIL FROM:<address>")
        else:
            self.sender = found[1]
            self.reply("250 2.1.0 Ok")

    def rcpt(self, argument: bytes) -> None:
        """RCPT TO."""
        found = _ADDRESS.match(argument)
        if self.sender is None:
            self.reply("503 5.5.1 MAIL first")
        elif not found or not found[1]:
            self.reply("501 5.5.4 Syntax: RCPT TO:<address>")
        elif refusal := self.post.refusal(recipient := found[1].decode("utf-8", "replace")):
            self.reply(refusal)
        else:
            self.recipients.append(recipient)
            self.reply("250 2.1.5 Ok")

    def take_message(self) -> bool:
        """Take a whole message off the buffer, if it is there, and answer it after the provider's delay."""
        if self.buffer.startswith(b".\r\n"):
            end, skip = 0, 3
        else:
            end, skip = self.buffer.find(b"\r\n.\r\n"), 5
        if end < 0:
            if len(self.buffer) > SIZE_LIMIT:
                self.reply("552 5.3.4 Message too big")
                self.close()
            return False
        content, recipients = bytes(self.buffer[:end]), self.recipients
        del self.buffer[: end + skip]
        self.in_data, self.busy = False, True
        self.reset()
        asyncio.get_running_loop().call_later(self.post.delay(), self.answer, content, recipients)
        return True

    def answer(self, content: bytes, recipients: list[str]) -> None:
        """Accept the message, then go on with what the client sent meanwhile."""
        number = self.post.accept(content, recipients)
        self.busy = False
        self.reply(f"250 2.0.0 Ok: queued as {number:08X}")
        self.pump()

    def auth(self, argument: bytes) -> None:
        """AUTH PLAIN (with or without an initial response) or AUTH LOGIN (RFC 4954)."""
        mechanism, _, initial = argument.partition(b" ")
        match mechanism.upper():
            case b"PLAIN" if initial:
                self.plain(initial)
            case b"PLAIN":
                self.prompt = self.plain
                self.reply("334 ")
            case b"LOGIN":
                self.prompt = self.login_user
                if initial:
                    self.prompt = None
                    self.login_user(initial)
                else:
                    self.reply("334 VXNlcm5hbWU6")
            case _:
                self.reply("504 5.5.4 Mechanism not supported")

    def plain(self, encoded: bytes) -> None:
        """The response of AUTH PLAIN."""
        parts = decoded(encoded).split("\0")
        self.admit(*parts[1:]) if len(parts) == 3 else self.admit("", "\0")

    def login_user(self, encoded: bytes) -> None:
        """The user name of AUTH LOGIN."""
        self.user = decoded(encoded)
        self.prompt = self.login_password
        self.reply("334 UGFzc3dvcmQ6")

    def login_password(self, encoded: bytes) -> None:
        """The password of AUTH LOGIN."""
        self.admit(self.user, decoded(encoded))

    def admit(self, username: str, password: str) -> None:
        """Answer a login."""
        manners = self.post.manners
        self.logged_in = not manners.username or (username, password) == (manners.username, manners.password)
        self.reply("235 2.7.0 Welcome" if self.logged_in else "535 5.7.8 Credentials are not valid")

    def reset(self) -> None:
        """Forget the envelope."""
        self.sender, self.recipients = None, []

    def close(self) -> None:
        """Hang up once all answers are out."""
        self.buffer.clear()
        self.busy = True
        if self.transport is not None:
            self.transport.close()


def decoded(text: bytes) -> str:
    """A base64 text; empty when it is none."""
    try:
        return base64.b64decode(text, validate=True).decode("utf-8", "replace")
    except binascii.Error:
        return ""


async def serve(host: str, port: int, log: Path, manners: Manners, seed: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    post = Post(descriptor, manners, seed)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    server = await loop.create_server(lambda: Session(post), host, port, backlog=1024)
    async with server:
        await stopped.wait()
    os.close(descriptor)


def main() -> None:
    """The command line. The password comes from POSTFLEET_SINK_PASSWORD, as command lines are public."""
    parser = argparse.ArgumentParser(
        prog="postfleet_local.sink", description=__doc__.splitlines()[0] if __doc__ else ""
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=2525)
    parser.add_argument("--log", type=Path, required=True, help="file that gets a line per accepted mail")
    parser.add_argument("--delay", type=float, nargs=2, default=(0.0, 0.0), metavar=("MIN", "MAX"), help="seconds")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--username", default="", help="the only login let in; any by default")
    parser.add_argument("--require-auth", action="store_true")
    parser.add_argument("--defer", type=float, default=0.0, metavar="FRACTION", help="recipients put off at first")
    parser.add_argument("--bounce", type=float, default=0.0, metavar="FRACTION", help="recipients that do not exist")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    manners = Manners(
        delay_min_seconds=options.delay[0],
        delay_max_seconds=options.delay[1],
        username=options.username,
        password=os.environ.get("POSTFLEET_SINK_PASSWORD", ""),
        require_auth=options.require_auth,
        defer_fraction=options.defer,
        bounce_fraction=options.bounce,
    )
    asyncio.run(serve(options.host, options.port, options.log, manners, options.seed))


if __name__ == "__main__":
    main()
