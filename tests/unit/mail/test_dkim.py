"""Signatures are verified by dkimpy, which shares no code with what made them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import dkim as verifier
import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from postfleet_workers.mail.errors import KeyInvalid
from postfleet_workers.mail.message.compose import Skeleton
from postfleet_workers.mail.message.dkim import PrivateKey, Signer, is_weak, load_key, record
from postfleet_workers.mail.message.headers import address

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ED25519 = Ed25519PrivateKey.generate()
BOTH = pytest.mark.parametrize("key", [pytest.param(RSA, id="rsa"), pytest.param(ED25519, id="ed25519")])
NOW = 1_772_366_405
PLAIN = b"From: a@acme.example\r\nTo: b@x.example\r\nSubject: Hi\r\n\r\nHello\r\n"


def verifies(message: bytes, key: PrivateKey) -> bool:
    return bool(verifier.verify(message, dnsfunc=lambda name, timeout=5: record(key).encode()))


def signed(message: bytes, key: PrivateKey = ED25519) -> bytes:
    return Signer("acme.example", "s1", key).sign(message, NOW)


def tags(message: bytes) -> dict[str, str]:
    value = re.split(rb"\r\n(?![ \t])", message, maxsplit=1)[0].partition(b":")[2].decode()
    pairs = (tag.partition("=") for tag in value.split(";"))
    return {name.strip(): re.sub(r"\s", "", text) for name, _, text in pairs}


@BOTH
def test_a_signature_says_who_signed_and_how(key: PrivateKey) -> None:
    message = signed(PLAIN, key)
    assert message.endswith(PLAIN)
    found = tags(message)
    assert found["v"] == "1"
    assert found["a"] == ("rsa-sha256" if key is RSA else "ed25519-sha256")
    assert (found["c"], found["d"], found["s"], found["t"]) == ("relaxed/relaxed", "acme.example", "s1", str(NOW))
    assert max(map(len, message.split(b"\r\n"))) <= 78
    assert verifies(message, key)


def test_the_same_key_is_asked_for_at_the_selector() -> None:
    asked = []

    def look_up(name: bytes, timeout: int = 5) -> bytes:
        asked.append(name)
        return record(ED25519).encode()

    assert verifier.verify(signed(PLAIN), dnsfunc=look_up)
    assert asked == [b"s1._domainkey.acme.example."]


def test_headers_that_must_not_be_added_are_signed_once_more_than_they_are_there() -> None:
    names = tags(signed(PLAIN))["h"].split(":")
    assert names.count("from") == names.count("to") == names.count("subject") == 2
    assert names.count("reply-to") == names.count("cc") == names.count("date") == 1
    assert "list-id" not in names


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((b"Hello", b"Hullo"), id="body"),
        pytest.param((b"Hello\r\n", b"Hello\r\nmore\r\n"), id="appended"),
        pytest.param((b"Subject: Hi", b"Subject: Ho"), id="subject"),
        pytest.param((b"Subject: Hi", b"Subject: Hi\r\nSubject: Ho"), id="second-subject"),
        pytest.param((b"From: a@", b"From: evil@x.example\r\nFrom: a@"), id="second-from"),
        pytest.param((b"Subject: Hi", b"Subject: Hi\r\nReply-To: evil@x.example"), id="reply-to-that-was-not-there"),
    ],
)
def test_a_change_on_the_way_breaks_the_signature(change: tuple[bytes, bytes]) -> None:
    message = signed(PLAIN)
    changed = message.replace(*change)
    assert changed != message
    assert verifies(message, ED25519)
    assert not verifies(changed, ED25519)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param((b"Subject: Hi", b"SUBJECT:   Hi  "), id="white-space-and-case"),
        pytest.param((b"Hello\r\n", b"Hello  \r\n\r\n\r\n"), id="trailing-space-and-lines"),
        pytest.param((b"Subject: Hi", b"Subject:\r\n Hi"), id="folded"),
        pytest.param((b"To: ", b"List-ID: <l.x.example>\r\nReceived: by relay\r\nTo: "), id="what-a-list-adds"),
    ],
)
def test_what_relays_rightly_do_leaves_it_whole(change: tuple[bytes, bytes]) -> None:
    changed = signed(PLAIN).replace(*change)
    assert change[1] in changed
    assert verifies(changed, ED25519)


white = st.text(" \t", max_size=4)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=30)
lines = st.one_of(
    st.just(""),
    st.sampled_from([".", "..", ". ", "From x", "x" * 998, "\t", "   "]),
    st.lists(st.tuples(white, words, white).map("".join), max_size=4).map("".join).map(lambda line: line[:998]),
    st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=100),
)
bodies = st.lists(lines, max_size=8).map(lambda body: "".join(f"{line}\r\n" for line in body).encode())
folds = st.sampled_from([" ", "  ", "\t", "\r\n ", "\r\n\t", " \r\n  "])
values = st.lists(st.tuples(words, folds), min_size=1, max_size=5).map(
    lambda parts: "".join(word + fold for word, fold in parts).rstrip()
)
names = st.sampled_from(
    ["From", "To", "CC", "subject", "Date", "Reply-To", "List-ID", "List-Unsubscribe", "X-Other", "Content-Type",
     "Received", "Feedback-ID"]
)  # fmt: skip
headers = st.lists(st.tuples(names, white.filter(lambda w: "\t" not in w), values), max_size=8)


@given(headers, bodies)
@settings(max_examples=300)
def test_any_message_verifies(headers: list[tuple[str, str, str]], body: bytes) -> None:
    head = "".join(f"{name}:{space}{value}\r\n" for name, space, value in [("From", " ", "a@acme.example"), *headers])
    assert verifies(signed(head.encode() + b"\r\n" + body), ED25519)


@given(
    subject=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200).map(str.strip),
    name=st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=200),
    text=st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300),
)
def test_any_composed_mail_verifies(subject: str, name: str, text: str) -> None:
    message = Skeleton.prepare("News <news@acme.example>", "Hélène <h@acme.example>", "mail.acme.example").compose(
        mark="7", message_id="abc", to=address("ann@b.example", name), subject=subject, text=text, html=f"<p>{text}",
        unsubscribe_url="https://acme.example/u/1", date=datetime(2026, 3, 1, tzinfo=UTC),
    )  # fmt: skip
    assert verifies(signed(message, ED25519), ED25519)


@BOTH
@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
def test_a_key_is_read_from_its_pem(key: PrivateKey, form: PrivateFormat) -> None:
    if key is ED25519:
        form = PrivateFormat.PKCS8  # there is no older form of it
    loaded = load_key(key.private_bytes(Encoding.PEM, form, NoEncryption()))
    assert record(loaded) == record(key)
    assert not is_weak(loaded)


def pem(key: object, password: bytes | None = None) -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)  # type: ignore[attr-defined, no-any-return]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param(b"", "is no private key in PEM", id="empty"),
        pytest.param(b"hello", "is no private key in PEM", id="text"),
        pytest.param(pem(RSA)[:300], "is no private key in PEM", id="cut-short"),
        pytest.param(pem(ED25519, b"secret"), "has a password", id="password"),
        pytest.param(pem(ec.generate_private_key(ec.SECP256R1())), "neither an RSA nor an Ed25519", id="ecdsa"),
        pytest.param(pem(dsa.generate_private_key(1024)), "neither an RSA nor an Ed25519", id="dsa"),
    ],
)
def test_what_cannot_sign_is_refused(text: bytes, complaint: str) -> None:
    with pytest.raises(KeyInvalid, match=complaint):
        load_key(text)


# 512 bits, which no library makes any more.
SHORT = b"""-----BEGIN RSA PRIVATE KEY-----
MIIBOgIBAAJBAMC6pZ8fznabQ6viZtMznh4k0TiqIOzK8RwFCDQk2buUH5q/mldX
zabN591mkF/7Z6f5/YT+mB2BRbgO1oTOPx0CAwEAAQJAVxjCWjv0gRM/rMDe+Rk9
np/C0VnJEVnRRnlbsLzqjOLl2AX3Hlz4eu7NOW5fAcoSGcrH1RxgCYJNYf5Lhbi1
wQIhAOXXkxtwb11MEQiI+P/9cNo/qMgRkZYYEIUw2MAoorzRAiEA1qnJ+Uj6eseR
ZuU0XW3URnqFl79vw5JWlHXJ1FJ4QI0CIQCI+L+iSo8TepFsFLTPWao3ZlifYljw
qcaumT2SxqS1AQIgDwp2jHEAm/m/xmXo9WLsrMOI+MkBG8L1LhHSwn3Ez0ECIFkL
mWBBcUZsEPwfpaNDOohBvda5SJwCWbD8mkTYexLp
-----END RSA PRIVATE KEY-----
"""


def test_a_key_of_1024_bits_is_weak() -> None:
    weak = load_key(pem(rsa.generate_private_key(public_exponent=65537, key_size=1024)))
    assert is_weak(weak)
    assert verifies(signed(PLAIN, weak), weak)


def test_a_key_that_receivers_do_not_verify_is_refused() -> None:
    with pytest.raises(KeyInvalid, match="is an RSA key of 512 bits; receivers verify 1024 to 4096"):
        load_key(SHORT)
