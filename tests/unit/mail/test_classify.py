from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.classify import Bounced, Deferred, Refused, Scope, Sent, Unknown, classify
from postfleet_workers.mail.reply import Phase, Reply, parse

R, M, S, D = Scope.RECIPIENT, Scope.MESSAGE, Scope.SOURCE, Scope.DESTINATION
MAIL, RCPT, DATA, DOT, BANNER = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT, Phase.BANNER

TABLE = [
    # accepted
    (DOT, "250 2.0.0 Ok: queued", Sent, None),
    (DOT, "250 OK", Sent, None),
    # the recipient
    (RCPT, "550 5.1.1 The email account that you tried to reach does not exist", Bounced, R),
    (RCPT, "550 5.1.10 Recipient not found", Bounced, R),
    (RCPT, "550 5.2.1 The email account that you tried to reach is disabled", Bounced, R),
    (RCPT, "550 5.5.0 Requested action not taken: mailbox unavailable (in reply to RCPT)", Bounced, R),
    (RCPT, "550 No such user here", Bounced, R),
    (RCPT, "550", Bounced, R),
    (RCPT, "554 5.7.1 unknown user", Bounced, R),
    (DOT, "550 5.1.1 user unknown", Bounced, R),
    (DOT, "552 5.2.2 mailbox full", Bounced, R),
    (RCPT, "452 4.2.2 The email account that you tried to reach is over quota", Deferred, R),
    (RCPT, "450 4.2.0 <a@b>: Recipient address rejected: Greylisted, see http://postgrey", Deferred, R),
    (RCPT, "451 4.7.1 Greylisting in action, please come back later", Deferred, R),
    (RCPT, "450 try later", Deferred, R),
    # the message
    (DOT, "554 5.6.0 Message contains invalid header", Bounced, M),
    (DOT, "550 5.7.1 Message refused by policy", Bounced, M),
    (RCPT, "550 5.7.1 Delivery not authorized", Bounced, M),
    (DOT, "552 5.3.4 Message too big for system", Bounced, M),
    (DOT, "554 Transaction failed", Bounced, M),
    (DOT, "550 This message was classified as SPAM", Bounced, M),
    # the source: never a bounce
    (DOT, "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail", Deferred, S),
    (MAIL, "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred", Deferred, S),
    (
        MAIL,
        "451 4.7.650 The mail server [192.0.2.1] has been temporarily rate limited due to IP reputation (S843)",
        Deferred,
        S,
    ),
    (RCPT, "451 [BS02] Message rejected", Deferred, S),
    (BANNER, "421 [HCM1] too many messages", Deferred, S),
    (BANNER, "421-RL000010 - throttled", Deferred, S),
    (
        MAIL,
        "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT succeed.",
        Refused,
        S,
    ),
    (DOT, "550 5.7.515 Access denied, sending domain does not meet the required authentication level", Refused, S),
    (DOT, "550 5.7.26 This mail has been blocked because the sender is unauthenticated", Refused, S),
    (DOT, "421 4.7.23 The IP address sending this message does not have a PTR record", Deferred, S),
    (DOT, "550 5.7.30 This mail lacks DKIM", Refused, S),
    (MAIL, "550 5.7.606 Access denied, banned sending IP [192.0.2.1]", Refused, S),
    (RCPT, "554 5.7.1 Service unavailable; Client host [192.0.2.1] blocked using zen.spamhaus.org", Refused, S),
    (RCPT, "554 5.7.1 <a@b>: Relay access denied", Refused, S),
    (MAIL, "530 5.7.0 Authentication required", Refused, S),
    (MAIL, "553 5.1.8 Sender address rejected: Domain not found", Refused, S),
    (MAIL, "550 no", Refused, S),
    (MAIL, "503 5.5.1 Error: need EHLO", Refused, S),
    (DATA, "503 bad sequence", Refused, S),
    # the destination
    (MAIL, "421 Service not available, closing channel", Deferred, D),
    (RCPT, "421 4.3.2 Service shutting down", Deferred, D),
    (DOT, "451 4.3.0 Temporary system problem", Deferred, D),
    (DOT, "452 4.3.1 Insufficient system storage", Deferred, D),
    (DOT, "451 try later", Deferred, D),
    (RCPT, "450 4.4.1 connection timed out", Deferred, D),
    (BANNER, "554 no SMTP service here", Deferred, D),
    (RCPT, "554 5.4.4 unable to route", Deferred, D),
    # no answers at all
    (DOT, "-1 gibberish", Unknown, None),
    (DOT, "354 go on", Unknown, None),
    (DOT, "777 what", Unknown, None),
    (RCPT, "-1 gibberish", Deferred, D),
    (DATA, "354 go on", Deferred, D),
    (DATA, "250 what for", Deferred, D),
]


@pytest.mark.parametrize(
    ("phase", "line", "verdict", "scope"), [pytest.param(*row, id=f"{row[0]}: {row[1][:60]}") for row in TABLE]
)
def test_a_reply_becomes_a_verdict(phase: Phase, line: str, verdict: type, scope: Scope | None) -> None:
    code, _, text = line.partition("-" if line.startswith("421-") else " ") if line[0] != "-" else ("-1", "", line[3:])
    found = classify(parse(int(code), text), phase)
    assert type(found) is verdict
    assert getattr(found, "scope", None) == scope


@given(
    st.integers(-1, 999), st.sampled_from(["", "4.7.1", "5.1.1", "5.9.9", "2.0.0"]), st.text(), st.sampled_from(Phase)
)
def test_unknown_comes_only_after_the_dot_and_a_4xx_never_bounces_a_recipient(
    code: int, enhanced: str, text: str, phase: Phase
) -> None:
    verdict = classify(Reply(code, enhanced, text), phase)
    if isinstance(verdict, Unknown):
        assert phase is Phase.DOT
    if isinstance(verdict, Sent):
        assert 200 <= code <= 299
        assert phase is Phase.DOT
    if isinstance(verdict, Bounced) and 400 <= code <= 499:
        assert "permanent" in text.lower() or "retrying" in text.lower() or "[TS03]" in text.upper()
