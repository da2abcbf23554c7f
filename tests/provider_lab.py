"""SMTP servers that answer as big providers do when a sender is too fast: an accept-all sink has no backpressure.

A `Profile` is what one provider takes from one address, and what it says to the rest. Texts are those that providers
send. The clock is the test's.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from smtp_lab import Conversation, FaultyLab, Phase


@dataclass(frozen=True)
class Profile:
    """What a provider takes from one address. 0 stands for no limit.

    Attributes:
        connections: open at once; beyond, the banner is `crowded`.
        messages: in one connection; then MAIL is answered with `enough`.
        per_minute: mails in any 60 s; beyond, the command `slow_at` is answered with `slow_down`.
        greylist_seconds: how long a new source, sender and recipient are put off.
        pause_seconds: waited before every answer.
    """

    connections: int = 0
    crowded: str = ""
    messages: int = 0
    enough: str = "421 4.7.0 Too many messages in this session, closing connection"
    per_minute: int = 0
    slow_down: str = ""
    slow_at: Phase = Phase.MAIL
    greylist_seconds: float = 0.0
    pause_seconds: float = 0.0


GMAIL = Profile(
    connections=5,
    crowded="421 4.7.0 Too many concurrent SMTP connections from this IP address. Please try again later. gsmtp",
    messages=50,
    per_minute=120,
    slow_down="421-4.7.28 Gmail has detected an unusual rate of unsolicited mail originating\r\n"
    "421 4.7.28 from your IP address. Email sent from your IP address has been temporarily rate limited. gsmtp",
    slow_at=Phase.DOT,
)
OUTLOOK = Profile(
    connections=5,
    crowded="421 4.3.2 The maximum number of concurrent connections has exceeded a limit, closing transmission channel",
    messages=50,
    per_minute=120,
    slow_down="451 4.7.650 The mail server [127.0.0.1] has been temporarily rate limited due to IP reputation. "
    "For e-mail delivery information see https://postmaster.live.com (S843)",
)
YAHOO = Profile(
    connections=10,
    crowded="421 4.7.0 [TSS04] Messages from 127.0.0.1 temporarily deferred due to unexpected volume or user "
    "complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
    messages=20,
    per_minute=120,
    slow_down="421 4.7.0 [TSS04] Messages from 127.0.0.1 temporarily deferred due to unexpected volume or user "
    "complaints - 4.16.55.1; see https://postmaster.yahooinc.com/error-codes",
)
GREYLISTING = Profile(greylist_seconds=300)
TARPIT = Profile(connections=2, crowded="421 too many connections", pause_seconds=0.2)
PROFILES = {"gmail": GMAIL, "outlook": OUTLOOK, "yahoo": YAHOO, "greylisting": GREYLISTING, "tarpit": TARPIT}


class ProviderLab(FaultyLab):
    """A `FaultyLab` with a provider's limits.

    Attributes:
        arrived: when each mail was accepted, by the lab's clock.
        most_open: connections from one address that were open at once and let in.
        refused: how often each limit was met: `connections`, `messages`, `per_minute`, `greylist`.
    """

    def __init__(self, profile: Profile, *, clock: Callable[[], float] = time.monotonic, **options: Any) -> None:
        self.profile = profile
        self.clock = clock
        self.arrived: list[float] = []
        self.most_open = 0
        self.refused: Counter[str] = Counter()
        self._let_in: dict[Conversation, str] = {}
        self._messages: Counter[Conversation] = Counter()
        self._recent: dict[str, deque[float]] = {}
        self._first_seen: dict[tuple[str, str, str], float] = {}
        self._guard = threading.Lock()
        self._ending = threading.Event()
        super().__init__(**options)

    def stop(self) -> None:
        self._ending.set()
        super().stop()

    def judge(self, phase: Phase, conversation: Conversation) -> str | None:
        if self.profile.pause_seconds and phase is not Phase.CONNECT:
            self._ending.wait(self.profile.pause_seconds)
        with self._guard:
            for name, refusal in (
                ("connections", self._crowded),
                ("messages", self._enough),
                ("per_minute", self._too_fast),
                ("greylist", self._greylisted),
            ):
                if answer := refusal(phase, conversation):
                    self.refused[name] += 1
                    return answer
            if phase is Phase.DOT:
                self.arrived.append(self.clock())
                self._messages[conversation] += 1
                self._recent.setdefault(conversation.source, deque()).append(self.clock())
        return None

    def ended(self, conversation: Conversation) -> None:
        with self._guard:
            self._let_in.pop(conversation, None)

    def _crowded(self, phase: Phase, conversation: Conversation) -> str | None:
        if phase is not Phase.BANNER:
            return None
        same = sum(source == conversation.source for source in self._let_in.values())
        if self.profile.connections and same >= self.profile.connections:
            return self.profile.crowded
        self._let_in[conversation] = conversation.source
        self.most_open = max(self.most_open, same + 1)
        return None

    def _enough(self, phase: Phase, conversation: Conversation) -> str | None:
        full = self.profile.messages and self._messages[conversation] >= self.profile.messages
        return self.profile.enough if full and phase is Phase.MAIL else None

    def _too_fast(self, phase: Phase, conversation: Conversation) -> str | None:
        if phase is not self.profile.slow_at or not self.profile.per_minute:
            return None
        recent = self._recent.setdefault(conversation.source, deque())
        while recent and recent[0] <= self.clock() - 60:
            recent.popleft()
        return self.profile.slow_down if len(recent) >= self.profile.per_minute else None

    def _greylisted(self, phase: Phase, conversation: Conversation) -> str | None:
        if phase is not Phase.RCPT or not self.profile.greylist_seconds:
            return None
        who = conversation.source, conversation.sender, conversation.recipient
        if self.clock() - self._first_seen.setdefault(who, self.clock()) >= self.profile.greylist_seconds:
            return None
        return (
            f"450 4.2.0 <{conversation.recipient}>: Recipient address rejected: Greylisted, "
            "see http://postgrey.schweikert.ch/help/x.html"
        )
