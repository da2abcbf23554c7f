"""What replies have in common."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.replies.masking import mask


@pytest.mark.parametrize(
    ("reply", "common"),
    [
        ("<ann@b.example>: no such user", "<address>: no such user"),
        ("Messages from 192.0.2.1 deferred [TSS04]", "Messages from <ip> deferred [TSS04]"),
        ("Client host [2001:db8::1] blocked", "Client host [<ip>] blocked"),
        ("see https://b.example/x?id=1 for more", "see <link> for more"),
        ("mx1.b.example closing after 20 messages", "<host> closing after <n> messages"),
        ("try again in 300 seconds", "try again in <n> seconds"),
        ("queue 4F2Axy91Q0z failed", "queue <id> failed"),
        ("throttled RL000010 (S3150) IB007", "throttled RL000010 (S3150) IB007"),
        ("5.7.1 at rule 12", "5.7.1 at rule <n>"),
        ("x12-20020a05622a1bcc00b003f3\n  - gsmtp", "<id> - gsmtp"),
        ("", ""),
    ],
)
def test_what_is_of_one_mail_or_moment_is_replaced(reply: str, common: str) -> None:
    assert mask(reply) == common


@given(st.text())
def test_a_common_text_stays_what_it_is(reply: str) -> None:
    once = mask(reply)
    assert mask(once) == once
