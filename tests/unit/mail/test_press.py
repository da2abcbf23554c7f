"""A parcel becomes the bytes that go on the wire: links of its own, files, a return path, a signature."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import dkim as verifier
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from postfleet_workers.mail.credentials import Credentials
from postfleet_workers.mail.directory import Campaign
from postfleet_workers.mail.errors import ComposeRefused, DkimMissing
from postfleet_workers.mail.message.attachments import Attachment
from postfleet_workers.mail.message.dkim import record
from postfleet_workers.mail.message.links import Links
from postfleet_workers.mail.message.press import Mail, Press, Supplies
from postfleet_workers.mail.node import NodeSpec, parse_node
from postfleet_workers.mail.parcels import Parcel, Row
from postfleet_workers.mail.returnpath import read as read_return_path
from postfleet_workers.mail.returnpath import read_unsubscribe
from postfleet_workers.mail.tokens import Key, Kind, read, read_stamp

KEY = Key(b"k" * 32)
LINKS = Links("https://m.example", KEY)
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
SUPPLIES = Supplies(key=KEY, links=LINKS)
CAMPAIGN = {
    "id": 3, "name": "spring", "sender": "News <news@acme.example>", "reply_to": None, "subject": "Hello",
    "text": "Hi {{ contact.name }}: {{ unsubscribe_url }}", "unsubscribe_url": "https://acme.example/leave",
    "html": '<body><a href="https://shop.example/?a=1&amp;b=2">go</a> <a href="{{ unsubscribe_url }}">no</a></body>',
    "list_name": "customers",
}  # fmt: skip


def node(**identity: Any) -> NodeSpec:
    return parse_node("n1", {"smtp": {"host": "h"}, "identity": {"domain": "mail.acme.example", **identity}})


def parcel(content: dict[str, Any] | None = None, files: Any = (), **campaign: Any) -> Parcel:
    """One of a campaign, or with `content` a single mail."""
    own = None if content else 3
    row = Row(7, 70, "acme", own, "campaign", "n1", "ann@b.example", "<x@y.example>", content, "queued", 0, None,
              {"name": "Ann"})  # fmt: skip
    return Parcel(row, None, None if content else Campaign(**{**CAMPAIGN, **campaign}), (), None, tuple(files))


def made(parcel: Parcel, supplies: Supplies = SUPPLIES, **identity: Any) -> tuple[Mail, EmailMessage]:
    mail = Press(supplies).make(parcel, node(**identity), NOW)
    message = message_from_bytes(mail.message, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return mail, message


def body(message: EmailMessage, kind: str) -> str:
    found = message.get_body((kind,))
    assert found is not None
    return str(found.get_content()).replace("\r\n", "\n")


def test_a_campaigns_own_link_is_announced_unless_it_wants_ours() -> None:
    _, message = made(parcel())
    assert message["List-Unsubscribe"] == "<https://acme.example/leave>"
    _, message = made(parcel(one_click=True))
    link = LINKS.unsubscribe(7)
    assert message["List-Unsubscribe"] == f"<{link}>"
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert body(message, "plain") == f"Hi Ann: {link}\n"
    assert f'href="{link}"' in body(message, "html")


def test_who_follows_no_link_can_unsubscribe_by_mail_where_mail_comes_back_to_us() -> None:
    _, message = made(parcel(one_click=True), returnPathDomain="bounces.acme.example")
    link, by_mail = re.findall(r"<([^>]+)>", message["List-Unsubscribe"])
    assert link == LINKS.unsubscribe(7)
    assert read_unsubscribe(by_mail.removeprefix("mailto:").upper(), KEY) == 7
    assert read_return_path(by_mail.removeprefix("mailto:"), KEY) is None


def test_without_an_address_of_ours_nothing_leads_to_us() -> None:
    _, message = made(parcel(one_click=True, track_opens=True, track_clicks=True), Supplies(key=KEY))
    assert message["List-Unsubscribe"] == "<https://acme.example/leave>"
    assert "https://shop.example/" in body(message, "html")
    assert "<img" not in body(message, "html")


def test_clicks_and_opens_are_tracked_when_the_campaign_says_so() -> None:
    _, message = made(parcel(track_opens=True, track_clicks=True))
    html = body(message, "html")
    (token,) = re.findall(r"https://m.example/c/([\w-]+)", html)
    assert read(KEY, Kind.CLICK, token).text == "https://shop.example/?a=1&b=2"
    assert f'<img src="{LINKS.open(7)}"' in html
    assert 'href="https://acme.example/leave"' in html


def test_a_single_mail_is_not_tracked() -> None:
    content = {"subject": "s", "text": "t", "html": '<a href="https://x">x</a>'}
    _, message = made(parcel(content))
    assert 'href="https://x"' in body(message, "html")
    assert message["Auto-Submitted"] == "auto-generated"


def test_bounces_come_back_to_us_where_the_node_has_a_domain_for_them() -> None:
    mail, message = made(parcel())
    assert mail.sender == "news@acme.example"
    assert read_stamp(KEY, message["X-Postfleet-Email"]) == 7
    mail, _ = made(parcel(), returnPathDomain="bounces.acme.example")
    assert mail.sender.endswith("@bounces.acme.example")
    assert read_return_path(mail.sender, KEY) == 7
    mail, message = made(parcel(), Supplies(), returnPathDomain="bounces.acme.example")
    assert (mail.sender, message["X-Postfleet-Email"]) == ("news@acme.example", "7")


def test_files_are_carried_and_images_shown() -> None:
    logo = Attachment("logo.png", "image/png", "1f@postfleet", "iVBO\r\n")
    terms = Attachment("terms.pdf", "application/pdf", "2e@postfleet", "JVBE\r\n")
    _, message = made(parcel(html='<img src="cid:logo.png">', files=[logo, terms]))
    assert 'src="cid:1f@postfleet"' in body(message, "html")
    assert [part.get_filename() for part in message.walk() if part.get_filename()] == ["logo.png", "terms.pdf"]


def test_a_mail_whose_attachment_is_gone_is_not_made() -> None:
    with pytest.raises(ComposeRefused, match="an attachment of it is gone"):
        made(parcel(files=[None]))


def test_mail_is_signed_as_the_last_thing_that_happens_to_it(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    (tmp_path / "n1.dkim").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    supplies = Supplies(Credentials(tmp_path), KEY, LINKS)
    mail, message = made(parcel(one_click=True, track_opens=True), supplies, dkim={"selector": "s1"})
    assert verifier.verify(mail.message, dnsfunc=lambda name, timeout=5: record(key).encode())
    signed = re.sub(r"\s", "", message["DKIM-Signature"])
    assert "d=mail.acme.example;s=s1;" in signed
    covered = re.search(r";h=([^;]+)", signed)
    assert covered is not None
    assert {"list-unsubscribe", "list-unsubscribe-post", "feedback-id", "list-id"} <= set(covered[1].split(":"))


def test_mail_that_cannot_be_signed_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(DkimMissing, match="node n1 cannot sign its mail"):
        made(parcel(), Supplies(Credentials(tmp_path)), dkim={"selector": "s1"})
