"""From a server's answer to a verdict. Pure: `rules` holds the table, what no rule knows is decided here.

The scope of a refusal matters more than its first digit: only the recipient's scope says something about the address,
the source's scope says that *we* are not wanted (from here, now), the destination's that the server has a problem.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from postfleet_workers.mail.replies.reply import Phase, Reply
from postfleet_workers.mail.replies.rules import Permanence, Rule, Rulebook, Scope, rulebook

FALLBACK = "fallback:"


@dataclass(frozen=True, slots=True)
class Reading:
    """How a refusal is to be taken.

    Attributes:
        scope: what it is about.
        permanent: another try cannot help.
        rule: the rule that said so; `fallback:` and the phase where none did.
    """

    scope: Scope
    permanent: bool
    rule: str


@dataclass(frozen=True, slots=True)
class Sent:
    """The server took responsibility for the mail."""

    reply: Reply


@dataclass(frozen=True, slots=True)
class Deferred:
    """Not now, or not from us: try again on the deferral schedule.

    A refusal of the source (not authorised, no SPF, listed) may be for good; what is wrong is ours to mend meanwhile.
    """

    reading: Reading
    reply: Reply


@dataclass(frozen=True, slots=True)
class Bounced:
    """Never: the recipient or the message is refused for good."""

    reading: Reading
    reply: Reply

    @property
    def hard(self) -> bool:
        """Whether the address is no good: only then may it be suppressed, and only on a rule's word."""
        return self.reading.scope is Scope.RECIPIENT and not is_fallback(self.reading.rule)


@dataclass(frozen=True, slots=True)
class Unknown:
    """After the final dot, an answer that is none: nobody knows whether the mail was accepted."""

    reply: Reply


Verdict = Sent | Deferred | Bounced | Unknown

_ADDRESS = re.compile(r"[^\s<>(:]*@[\w.-]+")
_BY_PHASE: dict[Phase, Scope] = {
    Phase.MAIL: Scope.SOURCE,
    Phase.RCPT: Scope.RECIPIENT,
    Phase.DATA: Scope.MESSAGE,
    Phase.BODY: Scope.MESSAGE,
    Phase.DOT: Scope.MESSAGE,
}
_OURS = frozenset({500, 501, 502, 503, 504, 530, 534, 535, 538})
# RFC 5321 4.2.3: what says that this mailbox is the trouble. 554 and the others may be anything.
_MAILBOX = frozenset({550, 551, 553})


def is_fallback(rule: str) -> bool:
    """Whether a reading's rule is none: no rule knew the reply."""
    return rule.startswith(FALLBACK)


def read(reply: Reply, phase: Phase) -> Reading:
    """How a refusal, the answer to the command of `phase`, is to be taken."""
    book = rulebook()
    detail = reply.enhanced[2:]
    rule = _by_text(book, reply, detail) or book.details.get(detail)
    scope = rule.scope if rule is not None and rule.scope is not None else _scope(reply, phase)
    permanence = rule.permanence if rule is not None else None
    permanent = reply.code >= 500 if permanence is None else permanence is Permanence.PERMANENT
    return Reading(scope, permanent, f"{FALLBACK}{phase}" if rule is None or rule.vague else rule.id)


def classify(reply: Reply, phase: Phase) -> Verdict:
    """The verdict on an email from the answer that ended its transaction, to the command of `phase`.

    Only an answer to the final dot can mean that it was sent.
    """
    code = reply.code
    if 200 <= code <= 299 and phase is Phase.DOT:
        return Sent(reply)
    if not 400 <= code <= 599:
        nothing = Reading(Scope.DESTINATION, permanent=False, rule=f"{FALLBACK}{phase}")
        return Unknown(reply) if phase is Phase.DOT else Deferred(nothing, reply)
    reading = read(reply, phase)
    if reading.permanent and reading.scope in {Scope.RECIPIENT, Scope.MESSAGE}:
        return Bounced(reading, reply)
    return Deferred(reading, reply)


def _by_text(book: Rulebook, reply: Reply, detail: str) -> Rule | None:
    text = reply.text.lower()
    if "@" in text:
        text = _ADDRESS.sub("", text)  # words of an address mean nothing
    for rule in book.texts:
        if (
            (not rule.codes or reply.code in rule.codes)
            and (not rule.enhanced or detail in rule.enhanced)
            and rule.pattern is not None
            and rule.pattern.search(text)
        ):
            return rule
    return None


def _scope(reply: Reply, phase: Phase) -> Scope:
    """Where no rule tells: by the code, else by the command that was answered."""
    if reply.code == 421 or phase not in _BY_PHASE:
        return Scope.DESTINATION
    if reply.code in _OURS:
        return Scope.SOURCE
    if phase is Phase.RCPT:
        mailbox = reply.code in _MAILBOX and not reply.enhanced.startswith("5.7.")
        return Scope.RECIPIENT if mailbox or reply.code < 500 else Scope.MESSAGE
    if reply.code < 500 and phase is not Phase.MAIL:
        return Scope.DESTINATION
    return _BY_PHASE[phase]
