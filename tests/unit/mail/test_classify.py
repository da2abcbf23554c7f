"""Replies of real servers, `replies.yaml`, and how they are taken; the promises that hold for any reply."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.mail.replies.classify import (
    FALLBACK,
    Bounced,
    Deferred,
    Sent,
    Unknown,
    classify,
    is_fallback,
    read,
)
from postfleet_workers.mail.replies.reply import Phase, Reply, parse
from postfleet_workers.mail.replies.rules import Permanence, Scope, rulebook

CORPUS: dict[str, list[dict[str, str]]] = yaml.safe_load(Path(__file__).with_name("replies.yaml").read_text("utf-8"))
MAIL, RCPT, DATA, DOT = Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.DOT


def reply(line: str) -> Reply:
    return parse(int(line[:3]), line[4:])


@pytest.mark.parametrize("servers", CORPUS)
def test_real_replies_are_taken_as_they_are_meant(servers: str) -> None:
    disagreements = []
    for row in CORPUS[servers]:
        found = read(reply(row["reply"]), Phase(row["at"]))
        taken = f"{found.scope} {'permanent' if found.permanent else 'temporary'}"
        if (taken, found.rule) != (row["is"], row["rule"]):
            disagreements.append(
                f"{row['at']}: {row['reply']}\n  expected {row['is']} by {row['rule']}, got {taken} by {found.rule}"
            )
    assert not disagreements, "\n".join(["", *disagreements])


def test_the_corpus_is_large_and_every_provider_s_rules_have_a_reply_in_it() -> None:
    rows = [row for replies in CORPUS.values() for row in replies]
    assert len(rows) >= 250
    named = {row["rule"].split(".")[0] for row in rows}
    assert {rule.id.split(".")[0] for rule in rulebook().texts} <= named


def test_every_rule_has_a_name_of_its_own_and_a_source() -> None:
    texts = rulebook().texts
    ids = [rule.id for rule in texts]
    assert sorted(set(ids)) == sorted(ids)
    assert not [rule.id for rule in texts if not rule.source or rule.id.startswith((FALLBACK, "iana:"))]


@pytest.mark.parametrize(
    ("phase", "line", "verdict", "hard"),
    [
        (DOT, "250 2.0.0 Ok: queued", Sent, None),
        (DOT, "250 OK", Sent, None),
        (RCPT, "550 5.1.1 no such user", Bounced, True),
        (DOT, "550 5.1.1 no such user", Bounced, True),
        (RCPT, "550", Bounced, False),  # no rule knows it: the mail bounces, the address may get the next one
        (DOT, "550 5.6.0 malformed", Bounced, False),
        (RCPT, "550 5.7.1 takes mail of few", Bounced, False),
        (RCPT, "552 5.2.2 mailbox full", Deferred, None),
        (RCPT, "451 4.7.1 greylisted", Deferred, None),
        (RCPT, "554 5.7.1 blocked using zen.spamhaus.org", Deferred, None),
        (MAIL, "421 4.7.1 [TS03] Retrying will NOT succeed", Deferred, None),
        (MAIL, "421 4.7.0 [TSS04] temporarily deferred", Deferred, None),
        (RCPT, "554 5.4.4 unable to route", Deferred, None),
        (DATA, "354 go on", Deferred, None),
        (DATA, "250 what for", Deferred, None),
        (DOT, "354 go on", Unknown, None),
        (DOT, "777 what", Unknown, None),
    ],
)
def test_a_reply_becomes_a_verdict(phase: Phase, line: str, verdict: type, hard: bool | None) -> None:
    found = classify(reply(line), phase)
    assert type(found) is verdict
    assert getattr(found, "hard", None) is hard


def test_what_is_no_reply_is_unknown_only_after_the_dot() -> None:
    assert isinstance(classify(Reply(-1, "", "gibberish"), DOT), Unknown)
    assert isinstance(classify(Reply(-1, "", "gibberish"), RCPT), Deferred)


ANY: Any = st.one_of(st.text(), st.sampled_from([row["reply"][4:] for replies in CORPUS.values() for row in replies]))


@given(st.integers(-1, 999), st.sampled_from(["", "4.7.1", "5.1.1", "5.9.9", "2.0.0"]), ANY, st.sampled_from(Phase))
def test_whatever_a_server_says_the_promises_hold(code: int, enhanced: str, text: str, phase: Phase) -> None:
    verdict = classify(Reply(code, enhanced, text), phase)
    match verdict:
        case Sent():
            assert 200 <= code <= 299
            assert phase is Phase.DOT
        case Unknown():
            assert phase is Phase.DOT
            assert not 200 <= code <= 299
        case Bounced(reading=reading):
            assert reading.scope in {Scope.RECIPIENT, Scope.MESSAGE}
            assert not verdict.hard or (reading.scope is Scope.RECIPIENT and not is_fallback(reading.rule))
            assert code >= 500 or _permanent(reading.rule)
        case Deferred(reading=reading):
            assert reading.rule
            assert not reading.permanent or reading.scope in {Scope.SOURCE, Scope.DESTINATION}


def _permanent(rule: str) -> bool:
    return any(r.permanence is Permanence.PERMANENT for r in rulebook().texts if r.id == rule)


def test_an_addresss_own_words_mean_nothing() -> None:
    assert read(reply("550 5.1.1 <spam.virus@quota.example>: not here"), RCPT).rule == "iana:1.1"


def test_a_sent_mail_meets_no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nine of ten replies: they must cost next to nothing."""
    monkeypatch.setattr("postfleet_workers.mail.replies.classify.rulebook", lambda: pytest.fail("the rules were asked"))
    assert isinstance(classify(reply("250 2.0.0 Ok: queued as spam"), DOT), Sent)
