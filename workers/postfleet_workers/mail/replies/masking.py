"""What replies have in common: the same text but for the mail and the moment. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

# In this order: what is left of an address or a link must not be taken for a number.
_MASKS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"https?://\S+", re.IGNORECASE), "<link>"),
    (re.compile(r"[^\s<>(:\"']+@[\w.-]*\w"), "<address>"),
    (re.compile(r"(?<![\w.:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])", re.IGNORECASE), "<ip>"),
    (re.compile(r"(?<![\w.])\d{1,3}(?:\.\d{1,3}){3}(?![\w.]*\w)"), "<ip>"),
    (re.compile(r"(?<![\w.-])(?:[a-z0-9_-]+\.)+[a-z]{2,}(?![\w-])", re.IGNORECASE), "<host>"),
    # Ids of queues and sessions: letters and digits mixed, longer than any provider's code ([TSS04], RL000010).
    (re.compile(r"(?<!\w)(?=[\w+/=-]*\d)(?=[\w+/=-]*[A-Za-z])[\w+/=-]{9,}"), "<id>"),
    (re.compile(r"(?<![\w.])\d+(?![\w.]*\d|\w)"), "<n>"),
    (re.compile(r"<<(\w+)>>"), r"<\1>"),
)


def mask(reply: str) -> str:
    """A reply with addresses, hosts, links, ids and numbers replaced by what they are; codes stay."""
    return " ".join(word if word.isalpha() else _masked(word) for word in reply.split())


@lru_cache(maxsize=4096)
def _masked(word: str) -> str:
    for pattern, name in _MASKS:
        word = pattern.sub(name, word)
    return word
