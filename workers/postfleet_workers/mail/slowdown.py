"""When a site's replies should make a node slow down there, and how. Pure tables.

A rule is met by a reply's text, at one site or at any; the classifier writes its name to the attempt
(`email_attempts.rule`). Met `threshold` times within `window_seconds` by the mails of one node to one site, it is due:
its actions begin, and hold for their duration from then on. What counts and what writes them down is `braking`.

Sources: Yahoo's TSS and IPTS codes (senders.yahooinc.com/smtp-error-codes), Microsoft's 4.7.650 and RP-001 to RP-003
(sendersupport.olc.protection.outlook.com/pm/troubleshooting), Google's 4.7.28 (support.google.com/a/answer/3726730),
Apple's HCM1 and BS02, Comcast's RL000010; thresholds and times are those that KumoMTA's users have settled on
(`shaping.toml` and the community's, read in March 2026). Raise `VERSION` with every change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

VERSION = 1
MINUTE, HOUR = 60, 3600


class Kind(StrEnum):
    """`slowdowns.action`."""

    SUSPEND = "suspend"
    """No mail at all."""
    PER_MINUTE = "per_minute"
    """At most so many mails a minute."""
    CONNECTIONS = "connections"
    """At most so many sessions at a time."""


@dataclass(frozen=True, slots=True)
class Action:
    """What a node does at a site, for how long. `value` is None for `suspend`."""

    kind: Kind
    duration_seconds: int
    value: int | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """A reply that asks for less.

    Attributes:
        name: stable; what `email_attempts.rule` holds.
        site: where it counts; '' is anywhere.
        pattern: searched in the reply's text, ignoring case.
        threshold: so many replies within the window; 1 acts at once.
        window_seconds: how far back replies count.
        actions: what then begins, all at a time.
    """

    name: str
    site: str
    pattern: re.Pattern[str]
    threshold: int
    window_seconds: int
    actions: tuple[Action, ...]


def _suspend(seconds: int) -> tuple[Action, ...]:
    return (Action(Kind.SUSPEND, seconds),)


def _per_minute(mails: int, seconds: int) -> tuple[Action, ...]:
    return (Action(Kind.PER_MINUTE, seconds, mails),)


def _connections(sessions: int, seconds: int) -> tuple[Action, ...]:
    return (Action(Kind.CONNECTIONS, seconds, sessions),)


def _rule(name: str, site: str, pattern: str, threshold: int, actions: tuple[Action, ...]) -> Rule:
    return Rule(name, site, re.compile(pattern, re.IGNORECASE), threshold, HOUR, actions)


# Read top to bottom: the first that fits is the reply's rule, so what is particular stands before what is general.
RULES: tuple[Rule, ...] = (
    _rule("yahoo-tss04", "yahoo", r"\[(TSS?|IPTS)04\]", 2, _suspend(2 * HOUR)),
    _rule("yahoo-tss05", "yahoo", r"\[(TSS?|IPTS)05\]", 2, _suspend(4 * HOUR)),
    _rule("yahoo-ts01", "yahoo", r"\[TSS?01\]", 2, _per_minute(1, 90 * MINUTE)),
    _rule("yahoo-ts02", "yahoo", r"\[TSS?02\]", 3, _per_minute(1, 30 * MINUTE)),
    _rule("yahoo-ts03", "yahoo", r"\[TSS?03\]", 3, _per_minute(10, 30 * MINUTE)),
    _rule("yahoo-listed", "yahoo", r"\[BL\d\d\]", 5, _suspend(2 * HOUR)),
    _rule("outlook-connections", "outlook",
          r"exceeded (the )?maximum (number of )?(concurrent )?connections|exceed max concurrent connections|\bIB007\b",
          2, _connections(1, HOUR)),
    _rule("outlook-blocked", "outlook", r"part of their network is on our block list|\bS3140\b|\bS3150\b", 5,
          _suspend(2 * HOUR)),
    _rule("outlook-busy", "outlook", r"server busy\. please try again later", 3, _per_minute(1, 15 * MINUTE)),
    _rule("gmail-unusual-rate", "gmail", r"unusual rate of (unsolicited )?(mail|email)|4\.7\.28\b", 2,
          _per_minute(10, 30 * MINUTE)),
    _rule("gmail-suspicious", "gmail", r"our system has detected that this message", 5, _suspend(HOUR)),
    _rule("apple-hcm1", "apple", r"\[HCM1\]", 3, _suspend(15 * MINUTE)),
    _rule("apple-bs02", "apple", r"\[BS02\]", 5, _suspend(15 * MINUTE)),
    # 10,000 an hour.
    _rule("comcast-rate", "comcast", r"\bRL0000\d\d\b", 2, _per_minute(166, 2 * HOUR)),
    _rule("gmx-connections", "gmx", r"too many connections", 3, _connections(1, 30 * MINUTE)),
    _rule("gmx-policy", "gmx", r"reject due to policy (restrictions|violations)", 5, _suspend(HOUR)),
    _rule("orange-connections", "orange", r"trop de connexions|too many connections", 2, _connections(1, HOUR)),
    _rule("qq-frequency", "qq", r"\b(sender|ip|connection|domain) frequency limited", 5, _suspend(HOUR)),
    # Anywhere: what big receivers write of an address that they mistrust.
    _rule("ip-reputation", "",
          r"rate limited due to ip reputation|messages from \S+ (temporarily|will be permanently) deferred"
          r"|messages from \S+ weren.t sent|server busy\. please try again later from", 1,
          (Action(Kind.PER_MINUTE, 90 * MINUTE, 1), Action(Kind.CONNECTIONS, 90 * MINUTE, 1))),
    _rule("too-many-connections", "",
          r"too many (concurrent |simultaneous )?(smtp )?(connections|sessions)"
          r"|(maximum|max) (number of )?(concurrent )?(connections|sessions) (exceeded|reached)", 3,
          _connections(1, 30 * MINUTE)),
)  # fmt: skip

_BY_NAME = {rule.name: rule for rule in RULES}


def match(site: str, text: str) -> str:
    """The name of the rule that a reply of a site meets, else ''. `text` is the whole reply, codes included."""
    for rule in RULES:
        if rule.site in {"", site} and rule.pattern.search(text):
            return rule.name
    return ""


def find(name: str) -> Rule | None:
    """The rule of that name; None for the names that only the classifier knows, which slow nothing down."""
    return _BY_NAME.get(name)


def due(name: str, count: int) -> tuple[Action, ...]:
    """What begins when a rule has been met `count` times within its window."""
    rule = find(name)
    return rule.actions if rule is not None and count >= rule.threshold else ()
