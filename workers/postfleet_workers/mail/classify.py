"""From a server's answer to a verdict. Pure tables, read top to bottom; the first rule that fits decides.

The scope of a refusal matters more than its first digit: only the recipient's scope says something about the address,
the source's scope says that *we* are not wanted (from here, now), the destination's that the server has a problem.
Sources: RFC 3463 and the IANA registry of enhanced status codes; providers' published replies (Gmail 4.7.23 to 5.7.32,
Microsoft 5.7.515 and 4.7.650, Yahoo TSS04 and TS03, Apple BS02 and HCM1, Comcast RL000010).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from postfleet_workers.mail.reply import Phase, Reply


class Scope(StrEnum):
    """What a refusal is about."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SOURCE = "source"
    DESTINATION = "destination"


@dataclass(frozen=True, slots=True)
class Sent:
    """The server took responsibility for the mail."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now: try again on the deferral schedule."""

    scope: Scope
    reply: Reply


@dataclass(frozen=True, slots=True)
class Bounced:
    """Never: the recipient or the message is refused for good."""

    scope: Scope
    reply: Reply


@dataclass(frozen=True, slots=True)
class Refused:
    """Our own fault (not authorised, no SPF, blocked): worth a few attempts, then a person must look; no bounce."""

    scope: Scope
    reply: Reply


@dataclass(frozen=True, slots=True)
class Unknown:
    """After the final dot, an answer that is none: nobody knows whether the mail was accepted."""

    reply: Reply


Verdict = Sent | Deferred | Bounced | Refused | Unknown

# Texts are looked at first: providers put the truth there and reuse codes (5.7.1 is half a dozen things).
_TEXTS: tuple[tuple[re.Pattern[str], Scope], ...] = tuple(
    (re.compile(pattern, re.IGNORECASE), scope)
    for pattern, scope in (
        (r"\[TSS?\d\d\]|\[BS\d\d\]|\[HCM\d\]|\bRL0000\d\d\b|\(S\d{3,4}\)", Scope.SOURCE),
        (r"reputation|unusual rate|rate limit(ed)?|too many (messages|connections) from", Scope.SOURCE),
        (r"\bSPF\b|\bDKIM\b|\bDMARC\b|\bPTR\b|reverse dns", Scope.SOURCE),
        (r"spamhaus|block ?list|black ?list|\bRBL\b|\bDNSBL\b|\bip\b.*\b(blocked|banned)", Scope.SOURCE),
        (r"relay(ing)? (access )?(denied|not permitted)|unable to relay|authentication required", Scope.SOURCE),
        (r"sender (address )?(rejected|denied|verif)", Scope.SOURCE),
        (r"gr[ea]y-?list", Scope.RECIPIENT),
        (r"(user|recipient|mailbox|address|account) (is )?(unknown|not found|unavailable|disabled|inactive|invalid)",
         Scope.RECIPIENT),
        (r"(no such|unknown|invalid) (user|recipient|mailbox|address)|does(n't| not) exist", Scope.RECIPIENT),
        (r"over ?quota|mailbox (is )?full", Scope.RECIPIENT),
        (r"\bspam\b|\bvirus\b|\bmalware\b|content|message size|too large", Scope.MESSAGE),
    )
)  # fmt: skip

# Enhanced codes without their class digit, exact ones before whole subjects.
_DETAILS: dict[str, Scope] = {
    "1.7": Scope.SOURCE,  # bad sender's mailbox syntax
    "1.8": Scope.SOURCE,  # bad sender's system address
    "2.3": Scope.MESSAGE,  # longer than the mailbox allows
    "3.4": Scope.MESSAGE,  # too big for the system
    "7.515": Scope.SOURCE,  # Microsoft: SPF, DKIM and DMARC all required
    "7.8": Scope.SOURCE,  # credentials invalid
    "7.9": Scope.SOURCE,
    "7.11": Scope.SOURCE,
    "7.13": Scope.SOURCE,
    **{f"7.{detail}": Scope.SOURCE for detail in range(20, 33)},  # Gmail and RFC 7372: PTR, SPF, rate, TLS, DKIM, DMARC
    **{f"7.{detail}": Scope.SOURCE for detail in range(606, 651)},  # Microsoft: banned addresses, rate limits
}
_SUBJECTS: dict[str, Scope] = {
    "1": Scope.RECIPIENT,
    "2": Scope.RECIPIENT,
    "3": Scope.DESTINATION,
    "4": Scope.DESTINATION,
    "6": Scope.MESSAGE,
}
_BY_PHASE: dict[Phase, Scope] = {
    Phase.MAIL: Scope.SOURCE,
    Phase.RCPT: Scope.RECIPIENT,
    Phase.DATA: Scope.MESSAGE,
    Phase.BODY: Scope.MESSAGE,
    Phase.DOT: Scope.MESSAGE,
}
_NEVER = re.compile(r"retrying will not succeed|permanently deferred|\[TS03\]", re.IGNORECASE)
_OURS = frozenset({500, 501, 502, 503, 504, 530, 535, 538})


def scope_of(reply: Reply, phase: Phase) -> Scope:
    """What a refusal is about: its text, else its enhanced code, else its code, else the command it answers."""
    for pattern, scope in _TEXTS:
        if pattern.search(reply.text):
            return scope
    if reply.enhanced:
        detail = reply.enhanced[2:]
        subject = detail.split(".")[0]
        if known := _DETAILS.get(detail) or _SUBJECTS.get(subject):
            return known
        if subject == "7" and phase is not Phase.MAIL:
            return Scope.MESSAGE  # refused by policy: says nothing about the address, nor clearly about us
    if reply.code == 421 or phase not in _BY_PHASE:
        return Scope.DESTINATION
    if reply.code in _OURS:
        return Scope.SOURCE
    if reply.code < 500 and phase in {Phase.DATA, Phase.BODY, Phase.DOT}:
        return Scope.DESTINATION
    return _BY_PHASE[phase]


def classify(reply: Reply, phase: Phase) -> Verdict:
    """The verdict on an email from the answer that ended its transaction, to the command of `phase`.

    Only an answer to the final dot can mean that it was sent.
    """
    if reply.code < 0 or reply.code >= 600 or 300 <= reply.code < 400 or reply.code < 200:
        return Unknown(reply) if phase is Phase.DOT else Deferred(Scope.DESTINATION, reply)
    if reply.accepted:
        return Sent(reply) if phase is Phase.DOT else Deferred(Scope.DESTINATION, reply)
    scope = scope_of(reply, phase)
    if reply.code < 500 and not _NEVER.search(reply.text):
        return Deferred(scope, reply)
    match scope:
        case Scope.RECIPIENT | Scope.MESSAGE:
            return Bounced(scope, reply)
        case Scope.SOURCE:
            return Refused(scope, reply)
        case Scope.DESTINATION:
            return Deferred(scope, reply)
