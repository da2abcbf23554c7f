"""Signed tokens: what a link or a return path says of an email, and that we said it. Pure.

A token names its kind, an email and, for some kinds, a text of its own. Nobody without the key can make one or change
one, and one kind never passes for another. There are two forms of the same signature:

- of links: `1` and base64url of `mac(12) kind(1) email id(8) text`: 29 characters without a text;
- tags, for addresses: 21 characters that survive a server which folds case. What they sign is written beside them.

The first character is the version, so that links in mails that went out long ago can be told from later ones. A key may
be followed by a newer one: that signs from then on; what older ones signed is believed for as long as they are kept.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass, field
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


@dataclass(frozen=True, slots=True)
class Key:
    """The secret key: `newest` signs and hashes, and what any of `older` has signed or hashed is known, too."""

    newest: bytes = field(repr=False)
    older: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def all(self) -> tuple[bytes, ...]:
        """Each value that is believed, the newest first."""
        return (self.newest, *self.older)


def key_of(secret: str | None) -> Key | None:
    """The key that `POSTFLEET_SECRET_KEY` stands for, the newest of several first; None when it is not set.

    Raises:
        InputError: one is empty, too short to keep anyone from guessing it, or not quite what it was before.
    """
    if not secret:
        return None
    values = secret.split(",")
    for number, value in enumerate(values, 1):
        name = "POSTFLEET_SECRET_KEY" if len(values) == 1 else f"POSTFLEET_SECRET_KEY: key {number} of {len(values)}"
        if not value.strip():
            raise InputError(f"{name} is empty; give one, or several as NEW,OLD")
        if len(values) > 1 and value != value.strip():
            raise InputError(f"{name} begins or ends with a space; write NEW,OLD without any")
        if len(value) < SHORTEST_SECRET:
            raise InputError(
                f"{name} has {len(value)} characters; give {SHORTEST_SECRET} or more, "
                "as `openssl rand -hex 32` makes them"
            )
    newest, *older = (value.encode() for value in values)
    return Key(newest, tuple(older))


def sign(key: Key, kind: Kind, email_id: int, text: str = "") -> str:
    """A token for a link: letters, digits, `-` and `_`."""
    body = kind.encode() + email_id.to_bytes(_ID_BYTES) + text.encode()
    return VERSION + base64.urlsafe_b64encode(_mac(key.newest, body, _MAC_BYTES) + body).rstrip(b"=").decode()


def read(key: Key, kind: Kind, token: str) -> Token:
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
    if len(data) < _HEAD_BYTES or not any(hmac.compare_digest(mac, _mac(value, body, _MAC_BYTES)) for value in key.all):
        raise TokenInvalid("not signed by us")
    if body[:1] != kind.encode():
        raise TokenInvalid("a token for something else")
    return Token(int.from_bytes(body[1 : 1 + _ID_BYTES]), body[1 + _ID_BYTES :].decode())


def tag(key: Key, kind: Kind, signed: str) -> str:
    """A signature of `signed` to write beside it, where case may be lost: digits and small letters."""
    return _tag(key.newest, kind, signed)


def is_tag(key: Key, kind: Kind, signed: str, given: str) -> bool:
    """Whether `given` is the tag of `signed`, whatever its case."""
    told = given.lower().encode(errors="replace")
    return any(hmac.compare_digest(_tag(value, kind, signed).encode(), told) for value in key.all)


def address_hash(key: Key, address: str) -> str:
    """What is kept of an erased address (in its compared form): 32 hexadecimal digits."""
    return address_hashes(key, address)[0]


def address_hashes(key: Key, address: str) -> list[str]:
    """Every hash under which an erased address may be known, the one of today first."""
    return [_mac(value, f"{Kind.ADDRESS}{address}".encode(), 16).hex() for value in key.all]


def stamp(key: Key, email_id: int) -> str:
    """The value of X-Postfleet-Email: the id, and that it is ours."""
    return f"{email_id}.{tag(key, Kind.MAIL, str(email_id))}"


def read_stamp(key: Key, value: str) -> int | None:
    """The email of a stamp; None when it is none of ours."""
    number, _, given = value.strip().partition(".")
    return email_id_of(key, Kind.MAIL, number, given)


def email_id_of(key: Key, kind: Kind, number: str, given: str) -> int | None:
    """The email id that `number` writes in decimal, if `given` is its tag."""
    if not (number.isascii() and number.isdecimal() and len(number) <= 19 and is_tag(key, kind, number, given)):
        return None
    return int(number)


def _tag(value: bytes, kind: Kind, signed: str) -> str:
    return VERSION + _mac(value, f"tag {kind} {signed}".encode(), _TAG_BYTES).hex()


def _mac(value: bytes, data: bytes, length: int) -> bytes:
    return hmac.digest(value, b"postfleet v1 " + data, "sha256")[:length]
