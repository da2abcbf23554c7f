"""What came back, read: a corpus of reports as servers write them."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.inbound.reports import Action, Complaint, DeliveryReport, Ignored, Report, read
from postfleet_workers.mail.replies.reply import Phase
from postfleet_workers.mail.returnpath import return_path
from postfleet_workers.mail.suppressions import is_hard
from postfleet_workers.mail.tokens import Key, stamp

KEY = Key(b"k" * 32)
CORPUS = Path(__file__).parent / "corpus"
COMPLAINTS = "arf", "jmrp"


def report(name: str, email_id: int = 7) -> Report:
    text = (CORPUS / f"{name}.eml").read_text()
    text = text.replace("RETURNPATH", f"<{return_path(email_id, 'bounces.example.com', KEY)}>")
    text = text.replace("STAMP", stamp(KEY, email_id))
    return read(text.replace("\n", "\r\n").encode(), KEY, complaints=name.startswith(COMPLAINTS))


FAILED, DELAYED, DELIVERED = Action


@pytest.mark.parametrize(
    ("name", "action", "code", "enhanced", "says", "hard"),
    [
        ("postfix-unknown-user", FAILED, 550, "5.1.1", "Recipient address rejected: User unknown", True),
        ("postfix-delayed", DELAYED, 450, "4.4.1", "Connection timed out", False),
        ("postfix-expired", FAILED, 450, "4.4.1", "Connection timed out", False),
        ("postfix-delivered", DELIVERED, 250, "2.0.0", "Ok: queued as", False),
        ("postfix-full", FAILED, 552, "5.2.2", "Quota exceeded", False),
        ("gmail-unknown-user", FAILED, 550, "5.1.1", "The email account that you tried to reach", True),
        ("exchange-online-unknown-user", FAILED, 550, "5.1.10", "RESOLVER.ADR.RecipientNotFound", True),
        ("exchange-2016-unknown-user", FAILED, 550, "5.1.1", "RESOLVER.ADR.RecipNotFound", True),
        ("outlook-reputation", FAILED, 550, "5.7.1", "on our block list (S3140)", False),
        ("exim-dsn-unrouteable", FAILED, 550, "", "Unrouteable address", True),
        ("exim-prose", FAILED, 550, "5.1.1", "User unknown", True),
        ("exim-prose-delayed", DELAYED, 450, "", "", False),
        ("qmail", FAILED, 550, "5.1.1", "no mailbox here by that name", True),
        ("yahoo-prose", FAILED, 552, "", "mailbox not found", True),
        ("sendmail-unknown-user", FAILED, 550, "5.1.1", "User unknown", True),
    ],
)
def test_a_report_of_a_delivery_is_read(
    name: str, action: Action, code: int, enhanced: str, says: str, hard: bool
) -> None:
    found = report(name)
    assert isinstance(found, DeliveryReport)
    (status,) = found.statuses
    assert (status.action, status.reply.code, status.reply.enhanced) == (action, code, enhanced)
    assert says in status.reply.text
    assert set(status.recipients) == {"ann@example.org"}
    assert found.about("Ann@Example.org") is status
    assert is_hard(status.reply, Phase.RCPT) is hard


def test_a_mail_forwarded_to_two_has_failed_only_if_it_failed_for_both() -> None:
    found = report("forwarded-two-recipients")
    assert isinstance(found, DeliveryReport)
    assert found.about("ann@example.org").action is DELIVERED
    assert found.about("ann.work@example.net").action is FAILED


@pytest.mark.parametrize(
    ("name", "email_id", "kind", "reporter"),
    [
        ("arf-yahoo", 7, "abuse", "Yahoo!-Mail-Feedback/2.0"),
        ("arf-redacted", 7, "abuse", "ReturnPathFBL/1.0"),
        ("jmrp", 7, "", ""),
        ("arf-message-id-only", None, "fraud", "SomeGenerator/1.0"),
    ],
)
def test_a_complaint_is_told_by_what_we_signed(name: str, email_id: int | None, kind: str, reporter: str) -> None:
    found = report(name)
    assert isinstance(found, Complaint)
    assert (found.type, found.reporter, found.email_id, found.message_id) == (
        kind,
        reporter,
        email_id,
        "<1@example.com>",
    )
    recipients = {"arf-redacted": "5b4f3e2d1c0b@redacted.invalid", "arf-message-id-only": "Ann@Example.org"}
    assert found.recipient == recipients.get(name, "ann@example.org")


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("out-of-office", Ignored.AUTO_REPLY),
        ("vacation-bsd", Ignored.AUTO_REPLY),
        ("read-receipt", Ignored.AUTO_REPLY),
        ("human-reply", Ignored.OTHER),
        ("arf-not-spam", Ignored.NOT_SPAM),
    ],
)
def test_mail_that_says_nothing_of_a_delivery_is_told_apart(name: str, kind: Ignored) -> None:
    assert report(name) is kind


def test_every_sample_is_expected_somewhere() -> None:
    source = Path(__file__).read_text()
    assert [path.stem for path in CORPUS.iterdir() if f'"{path.stem}"' not in source] == []


@pytest.mark.parametrize("name", sorted(path.stem for path in CORPUS.iterdir()))
def test_a_report_that_was_cut_anywhere_is_read_as_far_as_it_goes(name: str) -> None:
    whole = (CORPUS / f"{name}.eml").read_bytes()
    for end in range(0, len(whole), 97):
        read(whole[:end], KEY)
        read(whole[:end], KEY, complaints=True)


@pytest.mark.parametrize("name", ["postfix-unknown-user", "qmail", "exim-prose"])
def test_however_long_the_mail_in_it_a_report_is_read(name: str) -> None:
    whole = (CORPUS / f"{name}.eml").read_bytes().replace(b"\n", b"\r\n")
    assert read(whole + b"x" * 76 + b"\r\n" * 200_000, KEY) == read(whole, KEY)


@pytest.mark.parametrize(
    "head",
    [
        pytest.param(b"From: mailer-daemon@x\n\n", id="prose"),
        pytest.param(
            b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\nA: b\n\n",
            id="report",
        ),
    ],
)
@pytest.mark.parametrize("unit", [b"\r\n", b"\n", b"a,", b"a:\n\n"])
def test_no_mail_takes_long_to_read(head: bytes, unit: bytes) -> None:
    begun = time.process_time()
    read(head + unit * (1024 * 1024), KEY)
    assert time.process_time() - begun < 10, "minutes, when all of it is looked at"


@given(st.binary(max_size=300), st.booleans())
def test_noise_is_read(noise: bytes, complaints: bool) -> None:
    read(noise, KEY, complaints=complaints)
    read(b"Content-Type: multipart/report; boundary=x\n\n--x\nContent-Type: message/delivery-status\n\n" + noise, KEY)
    read(b"Content-Type: message/feedback-report\n\n" + noise, KEY, complaints=complaints)
