"""The bytes of a mail: multipart/alternative (text, HTML if there is any), headers by RFC 5322, 2045-2047, 8058. Pure.

What does not change within a campaign is prepared once in a `Skeleton`; per mail only strings are joined. No header
value can end its line: a control character in one is refused. Bodies are 7-bit: plain when they are ASCII with short
lines, quoted-printable when mostly ASCII, else base64, so that any server can take them and no line exceeds 998 octets.
"""

from __future__ import annotations

import binascii
import hashlib
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, getaddresses

from postfleet_workers.mail.errors import ComposeRefused

MAX_LINE = 998
FOLD_AT = 76
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_ADDRESS = re.compile(r"[^\s@<>(),;:\"\[\]\\\x00-\x1f\x7f]+@[^\s@<>(),;:\"\[\]\\\x00-\x1f\x7f]+")
_WORD_BYTES = 45  # base64 makes 60 characters of it: an encoded word of 72, under RFC 2047's 75


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: `mailbox` as on the wire (domain in ASCII), `header` as written in From, Reply-To or To."""

    mailbox: str
    header: str

    @property
    def domain(self) -> str:
        """The part after the @."""
        return self.mailbox.rpartition("@")[2]


def address(text: str, name: str = "", *, header: str = "address") -> Address:
    """Read `news@example.org` or `News <news@example.org>`.

    Raises:
        ComposeRefused: it is none; `header` says where it was to go.
    """
    refuse_control(header, text + name)
    mailbox = text
    if not _ADDRESS.fullmatch(text):
        found = getaddresses([text])
        shown, mailbox = found[0] if len(found) == 1 else ("", "")
        name = name or shown
        if not _ADDRESS.fullmatch(mailbox):
            raise ComposeRefused(f"{header}: {text[:100]!r} is not an email address")
    if not mailbox.isascii():
        local, _, domain = mailbox.rpartition("@")
        try:
            mailbox = f"{local}@{domain.encode('idna').decode('ascii')}"
        except UnicodeError:
            raise ComposeRefused(f"{header}: {domain[:100]!r} is not a domain") from None
    if len(mailbox) > 320:
        raise ComposeRefused(f"{header}: an address of {len(mailbox)} characters")
    if not name:
        return Address(mailbox, mailbox)
    fold = "\r\n " if len(name) + len(mailbox) > FOLD_AT - 14 else " "
    return Address(mailbox, f"{_phrase(name)}{fold}<{mailbox}>")


def refuse_control(header: str, value: str) -> None:
    """Let no header value end its own line.

    Raises:
        ComposeRefused: it holds a line break or another control character.
    """
    if not value.isprintable() and _CONTROL.search(value):
        raise ComposeRefused(f"{header}: holds a line break or control character: {value[:100]!r}")


@dataclass(frozen=True, slots=True)
class Skeleton:
    """What all mails of one campaign share."""

    sender: Address
    domain: str
    fixed: str

    @classmethod
    def prepare(cls, sender: str, reply_to: str | None, domain: str) -> Skeleton:
        """Prepare the headers that do not change; `domain` (the node's identity) makes Message-IDs.

        Raises:
            ComposeRefused: an address is none.
        """
        refuse_control("Message-ID", domain)
        source = address(sender, header="From")
        lines = [f"From: {source.header}\r\n"]
        if reply_to:
            lines.append(f"Reply-To: {address(reply_to, header='Reply-To').header}\r\n")
        return cls(source, domain, "".join(lines))

    def message_id(self, stored: str) -> str:
        """The Message-ID of a row: as stored when it has a domain, else at this node's."""
        inner = stored.strip("<>")
        return f"<{inner}>" if "@" in inner else f"<{inner}@{self.domain}>"

    def compose(
        self,
        *,
        mark: str,
        message_id: str,
        to: Address,
        subject: str,
        text: str,
        html: str | None,
        unsubscribe_url: str = "",
        date: datetime,
    ) -> bytes:
        """One whole message, CRLF, ending in one; not dot-stuffed.

        Args:
            mark: what `X-Postfleet-Email` says: the email's id, signed where there is a key.
            message_id: from the row; the same for every attempt.
            to: the recipient.
            subject: rendered subject.
            text: rendered text part.
            html: rendered HTML part, or None for a text-only mail.
            unsubscribe_url: with https also announces one-click unsubscribing (RFC 8058).
            date: when this attempt is made; aware.

        Raises:
            ComposeRefused: a header value holds a line break or is no address.
        """
        refuse_control("Subject", subject)
        own_id = self.message_id(message_id)
        refuse_control("Message-ID", own_id)
        unsubscribe = _unsubscribe(unsubscribe_url) if unsubscribe_url else ""
        head = (
            f"Date: {_date(date)}\r\n{self.fixed}To: {to.header}\r\nSubject: {_unstructured(subject)}\r\n"
            f"Message-ID: {own_id}\r\n{unsubscribe}X-Postfleet-Email: {mark}\r\nMIME-Version: 1.0\r\n"
        )
        boundary = f"=_{hashlib.blake2b(own_id.encode(), digest_size=15).hexdigest()}"
        plain = _part("text/plain", text, boundary)
        if html is None:
            return (head + plain).encode()
        return (
            f'{head}Content-Type: multipart/alternative;\r\n boundary="{boundary}"\r\n\r\n'
            f"--{boundary}\r\n{plain}\r\n--{boundary}\r\n{_part('text/html', html, boundary)}\r\n--{boundary}--\r\n"
        ).encode()


def _part(content_type: str, body: str, boundary: str) -> str:
    """A MIME part with its headers. Encoded unless it is ASCII with short lines and cannot be taken for a boundary."""
    body = body.replace("\r\n", "\n").replace("\r", "\n")
    if not body.endswith("\n"):
        body += "\n"
    if body.isascii() and boundary not in body and "\0" not in body and max(map(len, body.split("\n"))) <= MAX_LINE:
        return (
            f'Content-Type: {content_type}; charset="utf-8"\r\nContent-Transfer-Encoding: 7bit\r\n\r\n'
            + body.replace("\n", "\r\n")
        )
    raw = body.encode("utf-8", "replace")
    if len(raw) > 1.2 * len(body):  # a third or more of it would be escaped, threefold
        encoding = "base64"
        packed = binascii.b2a_base64(raw.replace(b"\n", b"\r\n"), newline=False).decode("ascii")
        lines = [packed[i : i + FOLD_AT] for i in range(0, len(packed), FOLD_AT)]
        content = "\r\n".join([*lines, ""])
    else:
        encoding = "quoted-printable"
        content = binascii.b2a_qp(raw, quotetabs=False, istext=True).decode("ascii").replace("\n", "\r\n")
    return f'Content-Type: {content_type}; charset="utf-8"\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n{content}'


def _unsubscribe(url: str) -> str:
    refuse_control("List-Unsubscribe", url)
    if not url.isascii() or " " in url or "<" in url or ">" in url or len(url) > 900:
        raise ComposeRefused(f"List-Unsubscribe: {url[:100]!r} is not a URL")
    one_click = "List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" if url.lower().startswith("https://") else ""
    return f"List-Unsubscribe: <{url}>\r\n{one_click}"


def _date(moment: datetime) -> str:
    return format_datetime(moment.astimezone(UTC))


def _phrase(name: str) -> str:
    """A display name: as it is, quoted, or as encoded words."""
    if len(name) > 200 or not name.isascii() or "=?" in name:
        return _encoded(name)
    if _ATOM.fullmatch(name):
        return name
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _unstructured(value: str) -> str:
    """A header's free text, folded at spaces; encoded words where it is not ASCII or would be mistaken for one."""
    if not value.isascii() or "=?" in value:
        return _encoded(value)
    if len(value) <= FOLD_AT - 9:
        return value
    lines, line = [], ""
    for word in re.split(r"(?= )", value):
        if line.strip() and len(line) + len(word) > FOLD_AT - 9 and word.strip():
            lines.append(line)
            line = word
        else:
            line += word
    lines.append(line)
    if any(len(part) > MAX_LINE - 9 for part in lines):
        return _encoded(value)
    return "\r\n".join(lines)


def _encoded(value: str) -> str:
    """RFC 2047 encoded words, each whole characters, folded between them."""
    words = []
    chunk = b""
    for character in value:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > _WORD_BYTES:
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{binascii.b2a_base64(word, newline=False).decode('ascii')}?=" for word in words)
