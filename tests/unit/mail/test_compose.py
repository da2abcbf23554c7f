"""Composed mails are judged by the standard library's parser, not by our own idea of them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.errors import ComposeRefused
from postfleet_workers.mail.message.compose import Skeleton, Stream, base64_lines, enclose
from postfleet_workers.mail.message.headers import address

NOW = datetime(2026, 3, 1, 12, 0, 5, tzinfo=timezone(timedelta(hours=2)))


PARTS: dict[str, Any] = {
    "mark": "7", "message_id": "abc", "to": address("ann@b.example"), "subject": "Hello", "text": "Hi Ann",
    "html": "<p>Hi Ann</p>", "date": NOW,
}  # fmt: skip


def compose(
    sender: str = "News <news@acme.example>", reply_to: str | None = None, to: str = "ann@b.example", **changes: Any
) -> bytes:
    return Skeleton.prepare(sender, reply_to, "mail.acme.example").compose(**(PARTS | {"to": address(to)} | changes))


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


def structure(message: EmailMessage) -> Any:
    """The tree of content types."""
    if not message.is_multipart():
        return message.get_content_type()
    return message.get_content_type(), [structure(inner) for inner in message.iter_parts()]  # type: ignore[arg-type]


LOGO = enclose("logo.png", "image/png", base64_lines(b"\x89PNG" * 100), content_id="1f@acme.example")
TERMS = enclose("terms.pdf", "application/pdf", base64_lines(b"%PDF"))
BOTH = ("multipart/alternative", ["text/plain", "text/html"])


@pytest.mark.parametrize(
    ("changes", "tree"),
    [
        pytest.param({"html": None}, "text/plain", id="text"),
        pytest.param({}, BOTH, id="both"),
        pytest.param({"text": " \n"}, "text/html", id="html"),
        pytest.param({"files": [TERMS]}, ("multipart/mixed", [BOTH, "application/pdf"]), id="attachment"),
        pytest.param(
            {"html": None, "files": [TERMS]},
            ("multipart/mixed", ["text/plain", "application/pdf"]),
            id="text-too",
        ),
        pytest.param(
            {"files": [LOGO]},
            ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
            id="image",
        ),
        pytest.param(
            {"files": [TERMS, LOGO, TERMS]},
            (
                "multipart/mixed",
                [
                    ("multipart/alternative", ["text/plain", ("multipart/related", ["text/html", "image/png"])]),
                    "application/pdf",
                    "application/pdf",
                ],
            ),
            id="everything",
        ),
        pytest.param(
            {"html": None, "files": [LOGO]}, ("multipart/mixed", ["text/plain", "image/png"]), id="image-without-html"
        ),
    ],
)
def test_parts_are_nested_as_mail_programs_expect(changes: dict[str, Any], tree: Any) -> None:
    raw = compose(**changes)
    assert_on_the_wire(raw)
    assert structure(parsed(raw)) == tree


def test_a_file_arrives_as_it_was_with_its_name() -> None:
    body = bytes(range(256)) * 50
    name = "Angebot für Jörg, Teil 2 (endgültig) – mit allen Preisen und Anlagen für das nächste Jahr.xlsx"
    raw = compose(files=[enclose(name, "application/octet-stream", base64_lines(body))])
    assert_on_the_wire(raw)
    (found,) = parsed(raw).iter_attachments()
    assert (found.get_filename(), found.get_content_disposition()) == (name, "attachment")
    assert found.get_content() == body


def test_an_image_is_found_by_what_the_html_calls_it() -> None:
    message = parsed(compose(html='<img src="cid:1f@acme.example">', files=[LOGO]))
    (image,) = [p for p in message.walk() if p.get_content_type() == "image/png"]
    assert image["Content-ID"] == "<1f@acme.example>"
    assert image.get_content_disposition() == "inline"


def test_a_campaign_says_which_list_it_is_and_whom_to_report_to() -> None:
    stream = Stream("acme", "spring", "customers")
    raw = Skeleton.prepare("News <news@acme.example>", None, "mail.acme.example", stream).compose(**PARTS)
    message = parsed(raw)
    assert message["List-ID"] == "<customers.acme.acme.example>"
    assert message["Feedback-ID"] == "spring:acme:campaign:acme.example"
    assert message["Precedence"] == "bulk"
    assert message["Auto-Submitted"] is None


def test_a_single_mail_says_that_no_person_wrote_it() -> None:
    raw = Skeleton.prepare("a@x.co", None, "mail.acme.example", Stream("acme")).compose(**PARTS)
    message = parsed(raw)
    assert (message["Auto-Submitted"], message["Precedence"], message["List-ID"]) == ("auto-generated", None, None)
    *names, sender = message["Feedback-ID"].split(":")
    assert names == ["acme", "transactional"]
    assert re.fullmatch(r"[0-9a-f]{10}", sender)  # Gmail wants 5 to 15 characters, and x.co has 4


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
    ],
)
def test_bodies_survive_in_the_lightest_encoding(text: str, encoding: str) -> None:
    raw = compose(text=text, html=text)
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


@pytest.mark.parametrize(
    "url", ["https://x/ y", "https://x/>", "https://x/ü", "https://x/" + "y" * 1000, "x.example/leave", "javascript:x"]
)
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ComposeRefused, match="List-Unsubscribe"):
        compose(unsubscribe_url=url)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0"), max_size=300)


@given(texts, texts)
def test_any_text_survives(text: str, html: str) -> None:
    raw = compose(text=text, html=html)
    assert_on_the_wire(raw)
    message = parsed(raw)
    for kind, body in (("plain", text), ("html", html)) if text.strip() else [("html", html)]:
        assert part(message, kind).rstrip("\n") == body.rstrip("\n")


@given(st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=300).map(str.strip))
def test_any_printable_subject_survives(subject: str) -> None:
    raw = compose(subject=subject)
    assert_on_the_wire(raw)
    assert parsed(raw)["Subject"] == subject
