"""Composed mails are judged by the standard library's parser, not by our own idea of them."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.header import decode_header, make_header
from email.message import EmailMessage
from email.utils import parseaddr
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.compose import Skeleton, address
from postfleet_workers.mail.errors import ComposeRefused

NOW = datetime(2026, 3, 1, 12, 0, 5, tzinfo=timezone(timedelta(hours=2)))


def compose(
    sender: str = "News <news@acme.example>", reply_to: str | None = None, to: str = "ann@b.example", **changes: Any
) -> bytes:
    parts: dict[str, Any] = {
        "mark": "7", "message_id": "abc", "to": address(to), "subject": "Hello", "text": "Hi Ann",
        "html": "<p>Hi Ann</p>", "date": NOW,
    }  # fmt: skip
    return Skeleton.prepare(sender, reply_to, "mail.acme.example").compose(**(parts | changes))


def parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)
    assert not message.defects
    assert not [d for part in message.walk() for d in part.defects]
    return message


def part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    assert body is not None
    return str(body.get_content()).replace("\r\n", "\n")


def decoded_name(raw: bytes, header: str) -> str:
    """The name by RFC 2047; CPython 3.11's `policy.default` puts a space between adjacent encoded words of one."""
    value = message_from_bytes(raw, policy=policy.compat32)[header]
    name, _ = parseaddr(value.replace("\r\n", ""))
    return str(make_header(decode_header(name)))


def assert_on_the_wire(raw: bytes) -> None:
    assert raw.endswith(b"\r\n")
    lines = raw.split(b"\r\n")
    assert all(b"\n" not in line and b"\r" not in line for line in lines)
    assert max(map(len, lines)) <= 998


def test_a_mail_has_both_parts_and_every_header() -> None:
    raw = compose(reply_to="help@acme.example", unsubscribe_url="https://acme.example/u/1")
    assert_on_the_wire(raw)
    message = parsed(raw)
    assert message.get_content_type() == "multipart/alternative"
    assert part(message, "plain") == "Hi Ann\n"
    assert part(message, "html") == "<p>Hi Ann</p>\n"
    assert {k: str(v) for k, v in message.items() if k != "Content-Type"} == {
        "Date": "Sun, 01 Mar 2026 10:00:05 +0000",
        "From": "News <news@acme.example>",
        "Reply-To": "help@acme.example",
        "To": "ann@b.example",
        "Subject": "Hello",
        "Message-ID": "<abc@mail.acme.example>",
        "List-Unsubscribe": "<https://acme.example/u/1>",
        "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        "X-Postfleet-Email": "7",
        "MIME-Version": "1.0",
    }


def test_without_html_it_is_plain_text() -> None:
    message = parsed(compose(html=None))
    assert message.get_content_type() == "text/plain"
    assert message.get_content() == "Hi Ann\r\n"


@pytest.mark.parametrize("url", ["mailto:leave@acme.example", "http://acme.example/u/1"])
def test_one_click_is_announced_only_for_https(url: str) -> None:
    message = parsed(compose(unsubscribe_url=url))
    assert message["List-Unsubscribe"] == f"<{url}>"
    assert message["List-Unsubscribe-Post"] is None


def test_a_stored_message_id_is_kept_whatever_the_attempt() -> None:
    first = compose(message_id="<x@y.example>")
    assert parsed(first)["Message-ID"] == "<x@y.example>"
    assert parsed(compose(message_id="x@y.example", date=NOW + timedelta(days=1)))["Message-ID"] == "<x@y.example>"


@pytest.mark.parametrize(
    ("sender", "name", "mailbox"),
    [
        pytest.param("news@acme.example", "", "news@acme.example", id="bare"),
        pytest.param("Acme News <news@acme.example>", "Acme News", "news@acme.example", id="atoms"),
        pytest.param('"Acme, Inc." <news@acme.example>', "Acme, Inc.", "news@acme.example", id="quoted"),
        pytest.param('"A \\"b\\" c" <a@b.example>', 'A "b" c', "a@b.example", id="quotes-inside"),
        pytest.param("Jörg Müller <j@acme.example>", "Jörg Müller", "j@acme.example", id="umlauts"),
        pytest.param(
            "山田太郎 " * 12 + "<j@acme.example>", ("山田太郎 " * 12).strip(), "j@acme.example", id="long-and-japanese"
        ),
        pytest.param("=?utf-8?q?x?= <j@acme.example>", "=?utf-8?q?x?=", "j@acme.example", id="looks-encoded"),
        pytest.param("N <j@bücher.example>", "N", "j@xn--bcher-kva.example", id="international-domain"),
        pytest.param("A" * 70 + " <j@acme.example>", "A" * 70, "j@acme.example", id="long-name"),
    ],
)
def test_names_and_addresses_survive(sender: str, name: str, mailbox: str) -> None:
    raw = compose(sender=sender, reply_to=sender)
    assert_on_the_wire(raw)
    for header in ("From", "Reply-To"):
        (found,) = parsed(raw)[header].addresses
        assert found.addr_spec == mailbox
        assert decoded_name(raw, header) == name


def test_an_international_local_part_stays_utf_8_for_smtputf8() -> None:
    assert address("jörg@bücher.example").mailbox == "jörg@xn--bcher-kva.example"
    assert "To: jörg@xn--bcher-kva.example\r\n".encode() in compose(to="jörg@bücher.example")


@pytest.mark.parametrize(
    "subject",
    [
        pytest.param("Grüße aus Köln", id="umlauts"),
        pytest.param("日本語の件名" * 20, id="long-japanese"),
        pytest.param("🎉 Sale", id="emoji"),
        pytest.param("word " * 60 + "end", id="long-ascii-is-folded"),
        pytest.param("x" * 1500, id="one-endless-word"),
        pytest.param("=?utf-8?q?fake?=", id="looks-encoded"),
        pytest.param("", id="empty"),
        pytest.param("two  spaces   kept" + " and a tail that makes it long enough to be folded once", id="spaces"),
    ],
)
def test_subjects_survive(subject: str) -> None:
    raw = compose(subject=subject)
    assert_on_the_wire(raw)
    assert parsed(raw)["Subject"] == subject


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        pytest.param("plain\nlines\n.\n..dots\nFrom here\n", "7bit", id="ascii"),
        pytest.param(
            "Grüße\n" + "viel Text in ASCII " * 20 + "\n.\ntrailing \n", "quoted-printable", id="mostly-ascii"
        ),
        pytest.param("日本語\n\n本文です\n", "base64", id="japanese"),
        pytest.param("x" * 5000 + "\n", "quoted-printable", id="endless-line"),
        pytest.param("a\r\nb\rc\n", "7bit", id="foreign-line-ends"),
        pytest.param("", "7bit", id="empty"),
    ],
)
def test_bodies_survive_in_the_lightest_encoding(text: str, encoding: str) -> None:
    raw = compose(text=text, html=text or "<p>")
    assert_on_the_wire(raw)
    message = parsed(raw)
    body = message.get_body(("plain",))
    assert body is not None
    assert body["Content-Transfer-Encoding"] == encoding
    lines = text.replace("\r\n", "\n").replace("\r", "\n")
    assert part(message, "plain") == (lines if lines.endswith("\n") else lines + "\n")


def test_a_body_that_holds_the_boundary_cannot_end_its_part() -> None:
    boundary = parsed(compose()).get_boundary()
    message = parsed(compose(text=f"x\n--{boundary}\nContent-Type: text/html\n\n<b>evil</b>\n--{boundary}--\n"))
    assert [p.get_content_type() for p in message.walk()] == ["multipart/alternative", "text/plain", "text/html"]
    assert "evil" in part(message, "plain")


@pytest.mark.parametrize(
    "evil", ["\r\nBcc: x@y.example", "\nBcc: x@y.example", "\rBcc: x", "\x00", "\x0bBcc", "\u2028x", "\x85x"]
)
@pytest.mark.parametrize("field", ["subject", "unsubscribe_url", "message_id", "to", "sender", "reply_to"])
def test_no_value_can_add_a_header(field: str, evil: str) -> None:
    value = {
        "to": "a@b.example",
        "sender": "N <a@b.example>",
        "reply_to": "a@b.example",
        "unsubscribe_url": "https://x",
    }.get(field, "x")
    for text in (value + evil, evil + value):
        with pytest.raises(ComposeRefused, match=r"line break|not an email"):
            compose(**{field: text})


@pytest.mark.parametrize("bad", ["", "no-at", "a@", "@b", "a b@c.example", "a@b.example, c@d.example", "<>", "x <y>"])
def test_what_is_no_address_is_refused(bad: str) -> None:
    with pytest.raises(ComposeRefused, match=r"To: .* is not an email address"):
        address(bad, header="To")


@pytest.mark.parametrize("url", ["https://x/ y", "https://x/>", "https://x/ü", "https://x/" + "y" * 1000])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ComposeRefused, match="List-Unsubscribe"):
        compose(unsubscribe_url=url)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=300)


@given(texts, texts)
def test_any_text_survives(text: str, html: str) -> None:
    raw = compose(text=text, html=html)
    assert_on_the_wire(raw)
    message = parsed(raw)
    for kind, body in (("plain", text), ("html", html)):
        assert part(message, kind).rstrip("\n") == body.rstrip("\n")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300).map(str.strip))
def test_any_printable_subject_survives(subject: str) -> None:
    raw = compose(subject=subject)
    assert_on_the_wire(raw)
    assert parsed(raw)["Subject"] == subject
