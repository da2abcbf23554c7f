"""Header values: addresses, names, free text and parameters, encoded and folded by RFC 5322, 2047, 2231 and 6532. Pure.

No value can end its line: a control character in one is refused. What a value may hold beyond ASCII is made ASCII, but
for the local part of an address, which has no such form: a mail with one takes a server with SMTPUTF8 (RFC 6531).
"""

from __future__ import annotations

import binascii
import re
from dataclasses import dataclass
from email.utils import getaddresses
from urllib.parse import quote

import idna

from postfleet_workers.mail.errors import ComposeRefused

FOLD_AT = 76
MAX_LINE = 998
_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~ -]+")
_ADDRESS = re.compile(r"[^\s@<>(),;:\"\[\]\\\x00-\x1f\x7f]+@[^\s@<>(),;:\"\[\]\\\x00-\x1f\x7f]+")
_QUOTABLE = re.compile(r"[A-Za-z0-9 !#$%&'()*+,./:;=?@^_`{|}~\[\]-]+")  # what no reader takes for something else
# RFC 2047, section 2: an encoded word has 75 characters at most, and its line 76. Base64 makes 60 characters of 45
# bytes, 72 with what is around them; the first word shares its line with the header's name, Reply-To at most.
_WORD_BYTES, _FIRST_WORD_BYTES = 45, 39
_LONGEST_NAME = 60  # a longer name is encoded, and folded between its words


@dataclass(frozen=True, slots=True)
class Address:
    """A mailbox: `mailbox` as on the wire (domain in ASCII), `header` as in From, Reply-To or To, `name` as given."""

    mailbox: str
    header: str
    name: str = ""

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
        if ":" in text and ":" not in shown:  # taken for a group (RFC 5322 3.4), and left out
            mailbox = ""
        name = name or shown
        if not _ADDRESS.fullmatch(mailbox):
            raise ComposeRefused(f"{header}: {text[:100]!r} is not an email address")
    if not mailbox.isascii():
        local, _, domain = mailbox.rpartition("@")
        mailbox = f"{local}@{_in_ascii(domain, header)}"
    if len(mailbox) > 320:
        raise ComposeRefused(f"{header}: an address of {len(mailbox)} characters")
    if not name or name.isspace():
        return Address(mailbox, mailbox)
    phrase = _phrase(name)
    fold = "\r\n " if len(phrase) + len(mailbox) > FOLD_AT - 14 else " "
    return Address(mailbox, f"{phrase}{fold}<{mailbox}>", name)


def refuse_control(header: str, value: str) -> None:
    """Let no header value end its own line.

    Raises:
        ComposeRefused: it holds a line break or another control character.
    """
    if not value.isprintable() and _CONTROL.search(value):
        raise ComposeRefused(f"{header}: holds a line break or control character: {value[:100]!r}")


def unstructured(value: str) -> str:
    """Free text, folded at spaces; encoded words where it is not ASCII or would be mistaken for one."""
    if not value.isascii() or "=?" in value:
        return encoded(value)
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
        return encoded(value)
    return "\r\n".join(lines)


def encoded(value: str) -> str:
    """RFC 2047 encoded words, each whole characters, folded between them."""
    words: list[bytes] = []
    chunk = b""
    for character in value:
        octets = character.encode("utf-8", "replace")
        if len(chunk) + len(octets) > (_WORD_BYTES if words else _FIRST_WORD_BYTES):
            words.append(chunk)
            chunk = b""
        chunk += octets
    words.append(chunk)
    return "\r\n ".join(f"=?utf-8?b?{binascii.b2a_base64(word, newline=False).decode('ascii')}?=" for word in words)


def parameter(name: str, value: str) -> str:
    """`name="value"`, or by RFC 2231: in UTF-8, and in numbered pieces on lines of their own when it is long."""
    if len(value) <= _LONGEST_NAME and _QUOTABLE.fullmatch(value):
        return f'{name}="{value}"'
    pieces, piece = [], "utf-8''"
    for character in value:
        octets = quote(character, safe="", errors="replace")
        if len(piece) + len(octets) > _LONGEST_NAME:
            pieces.append(piece)
            piece = ""
        piece += octets
    pieces.append(piece)
    if len(pieces) == 1:
        return f"{name}*={piece}"
    return ";\r\n ".join(f"{name}*{number}*={text}" for number, text in enumerate(pieces))


def _in_ascii(domain: str, header: str) -> str:
    try:
        return idna.encode(domain, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise ComposeRefused(f"{header}: {domain[:100]!r} is not a domain") from None


def _phrase(name: str) -> str:
    """A display name: as it is, quoted, or as encoded words."""
    if len(name) > _LONGEST_NAME or not name.isascii() or "=?" in name:
        return encoded(name)
    if _ATOM.fullmatch(name):
        return name
    return _quoted(name)


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
