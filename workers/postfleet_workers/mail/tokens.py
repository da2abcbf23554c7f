"""Signed tokens: what a link or a return path says of an email, and that we said it. Pure.

A token names its kind, an email and, for some kinds, a text of its own. Nobody without the key can make one or change
one, and one kind never passes for another. There are two forms of the same signature:

- of links: `1` and base64url of `mac(12) kind(1) email id(8) text`: 29 characters without a text;
- tags, for addresses: 21 characters that survive a server which folds case. What they sign is written beside them.

The first character is the version, so that links in mails that went out long ago can be told from later ones.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass
from enum import StrEnum

from postfleet_workers.errors import InputError
from postfleet_workers.mail.errors import TokenInvalid

SHORTEST_SECRET = 32
VERSION = "1"
_TOKEN = re.compile(rf"{VERSION}[A-Za-z0-9_-]*")
_MAC_BYTES = 12
_ID_BYTES = 8
_TAG_BYTES = 10
_HEAD_BYTES = _MAC_BYTES + 1 + _ID_BYTES


class Kind(StrEnum):
    """What a token is for; each value is one character, and is signed."""

    OPEN = "o"
    CLICK = "c"
    UNSUBSCRIBE = "u"
    RETURN_PATH = "b"
    FEEDBACK = "f"  # the address that complaints are reported to
    MAIL = "m"  # X-Postfleet-Email: which of our mails a report has in it
    ADDRESS = "a"  # the hash of an erased address


@dataclass(frozen=True, slots=True)
class Token:
    """What a link's token says. `text` is '' where its kind has none."""

    email_id: int
    text: str


def key_of(secret: str | None) -> bytes | None:
    """The key that `POSTFLEET_SECRET_KEY` stands for; None when it is not set.

    Raises:
        InputError: it is too short to keep anyone from guessing it.
    """
    if not secret:
        return None
    if len(secret) < SHORTEST_SECRET:
        raise InputError(
            f"POSTFLEET_SECRET_KEY has {len(secret)} characters; give {SHORTEST_SECRET} or more, "
            "as `openssl rand -hex 32` makes them"
        )
    return secret.encode()


def sign(key: bytes, kind: Kind, email_id: int, text: str = "") -> str:
    """A token for a link: letters, digits, `-` and `_`."""
    body = kind.encode() + email_id.to_bytes(_ID_BYTES) + text.encode()
    return VERSION + base64.urlsafe_b64encode(_mac(key, body, _MAC_BYTES) + body).rstrip(b"=").decode()


def read(key: bytes, kind: Kind, token: str) -> Token:
    """What a token of `kind` says.

    Raises:
        TokenInvalid: it is none of ours, is of another kind, or was changed.
    """
    if not _TOKEN.fullmatch(token):
        raise TokenInvalid("no token of this version")
    try:
        data = base64.b64decode(token[1:] + "=" * (-len(token[1:]) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise TokenInvalid("no token") from None
    mac, body = data[:_MAC_BYTES], data[_MAC_BYTES:]
    if len(data) < _HEAD_BYTES or not hmac.compare_digest(mac, _mac(key, body, _MAC_BYTES)):
        raise TokenInvalid("not signed by us")
    if body[:1] != kind.encode():
        raise TokenInvalid("a token for something else")
    return Token(int.from_bytes(body[1 : 1 + _ID_BYTES]), body[1 + _ID_BYTES :].decode())


def tag(key: bytes, kind: Kind, signed: str) -> str:
    """A signature of `signed` to write beside it, where case may be lost: digits and small letters."""
    return VERSION + _mac(key, f"tag {kind} {signed}".encode(), _TAG_BYTES).hex()


def is_tag(key: bytes, kind: Kind, signed: str, given: str) -> bool:
    """Whether `given` is the tag of `signed`, whatever its case."""
    return hmac.compare_digest(tag(key, kind, signed).encode(), given.lower().encode(errors="replace"))


def address_hash(key: bytes, address: str) -> str:
    """What is kept of an erased address (in its compared form): 32 hexadecimal digits."""
    return _mac(key, f"{Kind.ADDRESS}{address}".encode(), 16).hex()


def stamp(key: bytes, email_id: int) -> str:
    """The value of X-Postfleet-Email: the id, and that it is ours."""
    return f"{email_id}.{tag(key, Kind.MAIL, str(email_id))}"


def read_stamp(key: bytes, value: str) -> int | None:
    """The email of a stamp; None when it is none of ours."""
    number, _, given = value.strip().partition(".")
    return email_id_of(key, Kind.MAIL, number, given)


def email_id_of(key: bytes, kind: Kind, number: str, given: str) -> int | None:
    """The email id that `number` writes in decimal, if `given` is its tag."""
    if not (number.isascii() and number.isdecimal() and len(number) <= 19 and is_tag(key, kind, number, given)):
        return None
    return int(number)


def _mac(key: bytes, data: bytes, length: int) -> bytes:
    return hmac.digest(key, b"postfleet v1 " + data, "sha256")[:length]
