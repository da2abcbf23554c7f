"""DKIM signatures (RFC 6376, RFC 8463): relaxed/relaxed, by RSA-SHA256 or Ed25519-SHA256. Pure.

A `Signer` is made once per key and signs any message that is ready for the wire: all headers are there, lines end in
CRLF. Relaxed headers and body, because relays between us and the receiver fold and trim.

Headers that are signed are signed once more than they are there (oversigned): a second From or Subject that someone
adds on the way breaks the signature (RFC 6376, section 8.15). Those that a mailing list may rightly add are signed only
where they are.
"""

from __future__ import annotations

import re
from base64 import b64encode
from functools import lru_cache
from hashlib import sha256
from typing import TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from postfleet_workers.mail.errors import KeyInvalid

LEAST_BITS = 1024  # what RFC 8301 lets verifiers accept, in both directions
SAFE_BITS = 2048
MOST_BITS = 4096

ALWAYS = (
    b"from", b"to", b"cc", b"subject", b"date", b"message-id", b"reply-to", b"mime-version", b"content-type",
    b"content-transfer-encoding",
)  # fmt: skip
WHERE_PRESENT = (
    b"sender", b"in-reply-to", b"references", b"list-id", b"list-unsubscribe", b"list-unsubscribe-post",
    b"feedback-id", b"precedence", b"auto-submitted", b"x-postfleet-email",
)  # fmt: skip
SIGNED = frozenset((*ALWAYS, *WHERE_PRESENT))

_WHITE = re.compile(rb"[ \t]{2,}|\t")
_WHITE_END = re.compile(rb" +(?=\r\n)")
_LINE = 72

PrivateKey: TypeAlias = RSAPrivateKey | Ed25519PrivateKey


def load_key(pem: bytes) -> PrivateKey:
    """A private key from PEM, PKCS#8 (`PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).

    Raises:
        KeyInvalid: it is none, has a password, is of another kind, or an RSA key that verifiers would refuse.
    """
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError:
        raise KeyInvalid("has a password; remove it, as in `openssl pkey -in key.pem -out plain.pem`") from None
    except (ValueError, UnsupportedAlgorithm):
        raise KeyInvalid("is no private key in PEM; make one with `openssl genrsa 2048`") from None
    match key:
        case RSAPrivateKey(key_size=bits) if bits < LEAST_BITS or bits > MOST_BITS:
            raise KeyInvalid(f"is an RSA key of {bits} bits; receivers verify {LEAST_BITS} to {MOST_BITS}")
        case RSAPrivateKey() | Ed25519PrivateKey():
            return key
        case _:
            raise KeyInvalid("is neither an RSA nor an Ed25519 key")


def is_weak(key: PrivateKey) -> bool:
    """Whether receivers may soon refuse it, as some do already: RSA of less than 2048 bits (RFC 8301)."""
    return isinstance(key, RSAPrivateKey) and key.key_size < SAFE_BITS


def record(key: PrivateKey) -> str:
    """What the TXT record at `<selector>._domainkey.<domain>` must say."""
    if isinstance(key, RSAPrivateKey):
        public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return f"v=DKIM1; k=rsa; p={b64encode(public).decode()}"
    return f"v=DKIM1; k=ed25519; p={b64encode(key.public_key().public_bytes_raw()).decode()}"


class Signer:
    """Signs for one domain and selector. Safe to share between threads."""

    __slots__ = ("_fixed", "_key")

    def __init__(self, domain: str, selector: str, key: PrivateKey) -> None:
        algorithm = b"rsa-sha256" if isinstance(key, RSAPrivateKey) else b"ed25519-sha256"
        self._key = key
        self._fixed = b"v=1; a=%b; c=relaxed/relaxed;\r\n d=%b; s=%b;\r\n t=" % (
            algorithm, domain.encode("idna"), selector.encode("idna"),
        )  # fmt: skip

    def sign(self, message: bytes, now: int) -> bytes:
        """The message with a `DKIM-Signature` before its first header.

        Args:
            message: headers, an empty line, body; CRLF.
            now: seconds since 1970, for `t=`.
        """
        head, _, body = message.partition(b"\r\n\r\n")
        # Of a header that is there twice, the last one is taken first (5.4.2).
        present = [pair for pair in reversed(relaxed_headers(head)) if pair[0] in SIGNED]
        listed = _listed(tuple([name for name, _ in present]))
        digest = b64encode(sha256(relaxed_body(body)).digest())
        tags = b"%b%d; bh=%b;\r\n h=%b;\r\n b=" % (self._fixed, now, digest, listed)
        own = b"dkim-signature:" + tags.replace(b"\r\n", b"")
        signed = b"".join([b"%b:%b\r\n" % pair for pair in present])
        signature = b64encode(self._signature(sha256(signed + own).digest()))
        wrapped = b"\r\n ".join([signature[i : i + _LINE] for i in range(0, len(signature), _LINE)])
        return b"DKIM-Signature: %b%b\r\n%b" % (tags, wrapped, message)

    def _signature(self, digest: bytes) -> bytes:
        if isinstance(self._key, RSAPrivateKey):
            return self._key.sign(digest, PKCS1v15(), _PREHASHED)
        return self._key.sign(digest)  # RFC 8463: Ed25519 over the SHA-256


_PREHASHED = Prehashed(SHA256())


def relaxed_headers(head: bytes) -> list[tuple[bytes, bytes]]:
    """Each header's name in lower case and its value, as section 3.4.2 has it."""
    head = head.replace(b"\r\n ", b" ").replace(b"\r\n\t", b" ")
    if b"\t" in head or b"  " in head:
        head = _WHITE.sub(b" ", head)
    lines = [line.partition(b":") for line in head.split(b"\r\n")]
    return [(name.strip().lower(), value.strip(b" ")) for name, _, value in lines]


def relaxed_body(body: bytes) -> bytes:
    """The body as section 3.4.4 has it: runs of white space as one space, none at a line's end, no empty last lines."""
    if b"\t" in body or b"  " in body:
        body = _WHITE.sub(b" ", body)
    if b" \r\n" in body:
        body = _WHITE_END.sub(b"", body)
    body = body.removesuffix(b" ").rstrip(b"\r\n")
    return body + b"\r\n" if body else b""


@lru_cache(maxsize=256)
def _listed(present: tuple[bytes, ...]) -> bytes:
    """What `h=` says for these headers: each of them, and each that must not be added."""
    names = [*present, *ALWAYS, *sorted(set(present).difference(ALWAYS))]
    lines, line = [], b""
    for name in names:
        if len(line) + len(name) > _LINE:
            lines.append(line)
            line = b""
        line += name + b":"
    lines.append(line)
    return b"\r\n ".join(lines).removesuffix(b":")
