"""What an SMTP server answers, as a value, and how it is written to the journal. Pure.

An answer is a code, an enhanced status code where the text starts with one (RFC 2034, RFC 3463) and the text, its lines
joined by a space.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache

MAX_TEXT = 500
_ENHANCED = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?:\s+|$)")
_DETAIL = re.compile(r"([a-z]+) (-?\d{1,3}) (-|[245]\.\d{1,3}\.\d{1,3})(?: (.*))?", re.DOTALL)
NO_ANSWER = "ended"


class Phase(StrEnum):
    """How far a delivery got: the command whose answer was awaited."""

    CONNECT = "connect"
    BANNER = "banner"
    EHLO = "ehlo"
    STARTTLS = "starttls"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    BODY = "body"
    DOT = "dot"


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer. `code` is -1 when the server sent something that is no SMTP reply; `enhanced` is '' when absent."""

    code: int
    enhanced: str
    text: str

    @property
    def accepted(self) -> bool:
        """Whether the code is 2xx."""
        return 200 <= self.code <= 299

    def __str__(self) -> str:
        code = f"{self.code} {self.enhanced}" if self.enhanced else str(self.code)
        return f"{code} {self.text}" if self.text else code


@lru_cache(maxsize=1024)  # servers say mostly the same
def parse(code: int, text: bytes | str) -> Reply:
    r"""A reply from its code and text; lines are separated by `\n`, each may repeat the enhanced code."""
    words = text.decode("utf-8", "replace") if isinstance(text, bytes) else text
    enhanced = ""
    lines = []
    for line in words.splitlines():
        match = _ENHANCED.match(line)
        if match and enhanced in {"", match[1]}:
            enhanced = match[1]
            line = line[match.end() :]
        lines.append(line.strip())
    printable = "".join(c if c.isprintable() else " " for c in " ".join(lines))
    return Reply(code, enhanced, printable.strip()[:MAX_TEXT].rstrip())


def to_detail(phase: Phase, reply: Reply) -> str:
    """An answer and what it answered, as the journal keeps it. `NO_ANSWER` stands for 'ended without one'."""
    return f"{phase} {reply.code} {reply.enhanced or '-'} {reply.text}".rstrip()


def from_detail(detail: str) -> tuple[Phase, Reply] | None:
    """What `to_detail` wrote; None for `NO_ANSWER`. A text that it never wrote is an answer to the dot that is none."""
    if detail == NO_ANSWER:
        return None
    match = _DETAIL.fullmatch(detail)
    if match is None or match[1] not in set(Phase):
        return Phase.DOT, Reply(-1, "", detail[:MAX_TEXT])
    return Phase(match[1]), Reply(int(match[2]), "" if match[3] == "-" else match[3], match[4] or "")
