"""Rules that slow a node down at a site."""

from __future__ import annotations

import re

import pytest

from postfleet_workers.mail import sites, slowdown
from postfleet_workers.mail.slowdown import RULES, Action, Kind, due, match


@pytest.mark.parametrize(
    ("site", "text", "rule"),
    [
        ("yahoo", "421 4.7.0 [TSS04] Messages from 192.0.2.1 temporarily deferred due to complaints", "yahoo-tss04"),
        ("yahoo", "421 [IPTS04] Messages from 192.0.2.1 temporarily deferred", "yahoo-tss04"),
        ("yahoo", "421 4.7.1 [TS03] All messages from 192.0.2.1 will be permanently deferred; Retrying will NOT",
         "yahoo-ts03"),
        ("outlook", "421 4.3.2 The mail server [192.0.2.1] has exceeded the maximum number of connections.",
         "outlook-connections"),
        ("outlook", "451 4.7.650 The server [192.0.2.1] has been temporarily rate limited due to IP reputation (S843)",
         "ip-reputation"),
        ("outlook", "550 5.7.1 messages from [192.0.2.1] weren't sent: part of their network is on our block list",
         "outlook-blocked"),
        ("gmail", "421 4.7.28 Gmail has detected an unusual rate of unsolicited mail from your IP.",
         "gmail-unusual-rate"),
        ("gmail", "421 4.7.28 To protect our users from spam, mail sent from your IP has been rate limited.",
         "gmail-unusual-rate"),
        ("gmail", "550 5.7.1 [192.0.2.1] Our system has detected that this message is likely unsolicited mail.",
         "gmail-suspicious"),
        ("apple", "421 [HCM1] Your mail from 192.0.2.1 was deferred", "apple-hcm1"),
        ("apple", "451 [BS02] Temporary server error. Please try again later.", "apple-bs02"),
        ("comcast", "421 4.1.0 192.0.2.1 Throttled - try again later. RL000010", "comcast-rate"),
        ("gmx", "421 gmx.net (mxgmx016) Nemesis ESMTP Service not available. Too many connections", "gmx-connections"),
        ("mx:mx.acme.example", "421 4.7.0 Too many concurrent SMTP connections", "too-many-connections"),
        ("mx:mx.acme.example", "421 [TSS04] nothing of Yahoo's", ""),
        ("gmail", "452 4.2.2 The recipient's inbox is out of storage space", ""),
        ("mx:mx.acme.example", "450 4.2.0 Greylisted, see you later", ""),
        ("gmail", "550 5.1.1 The email account that you tried to reach does not exist.", ""),
    ],
)  # fmt: skip
def test_a_reply_meets_the_first_rule_that_fits(site: str, text: str, rule: str) -> None:
    assert match(site, text) == rule


def test_a_rule_is_due_from_its_threshold_on() -> None:
    assert [due("yahoo-tss04", count) for count in (0, 1)] == [(), ()]
    assert due("yahoo-tss04", 2) == due("yahoo-tss04", 9) == (Action(Kind.SUSPEND, 7200),)


def test_an_address_that_is_mistrusted_slows_down_at_once() -> None:
    assert due("ip-reputation", 1) == (Action(Kind.PER_MINUTE, 5400, 1), Action(Kind.CONNECTIONS, 5400, 1))


def test_a_name_of_the_classifiers_alone_slows_nothing() -> None:
    assert slowdown.find("some-bounce") is None
    assert due("some-bounce", 100) == ()


def test_names_differ_and_say_the_site() -> None:
    names = [rule.name for rule in RULES]
    assert len(names) == len(set(names))
    for rule in RULES:
        assert re.fullmatch("[a-z0-9-]+", rule.name)
        assert rule.name.startswith(f"{rule.site}-") or not rule.site


def test_rules_of_a_site_are_of_the_tables_and_each_does_something() -> None:
    known = {site.name for site in sites.TABLE} | {""}
    for rule in RULES:
        assert rule.site in known
        assert rule.threshold >= 1
        assert {action.kind for action in rule.actions}
        assert all((action.value is None) == (action.kind is Kind.SUSPEND) for action in rule.actions)
        assert len({action.kind for action in rule.actions}) == len(rule.actions)
