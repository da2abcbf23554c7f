"""Which metrics and labels a PromQL expression names. Enough of the language for our own alerts and panels."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

STRING = re.compile(r'"(?:[^"\\]|\\.)*"')
SELECTOR = re.compile(r"\b([a-zA-Z_:][\w:]*)\s*(\{[^}]*\})?(\s*\()?")
GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:[^"\\]|\\.)*)"')
WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan"})


@dataclass(slots=True)
class Named:
    """What an expression names: metrics with the labels of their matchers, values by label, labels grouped by, and the
    selectors as they stand there."""

    metrics: dict[str, set[str]] = field(default_factory=dict)
    values: dict[str, set[str]] = field(default_factory=dict)
    grouped: set[str] = field(default_factory=set)
    selectors: list[str] = field(default_factory=list)


def named(expression: str) -> Named:
    """Read an expression.

    Values of regular expressions count as the words between the bars; those with any other magic are left out.
    """
    found = Named()
    for _, labels in GROUPING.findall(expression):
        found.grouped |= {label.strip() for label in labels.split(",") if label.strip()}
    plain = re.sub(r"\[[^\]]*\]|\boffset\s+\w+", "", GROUPING.sub(" ", expression))
    for match in SELECTOR.finditer(_quoted_away(plain)):
        name, braces, call = match.groups()
        if call or name in WORDS or re.fullmatch(r"\d.*", name):
            continue
        matchers = MATCHER.findall(plain[match.start(2) : match.end(2)]) if braces else []
        found.selectors.append(plain[match.start(1) : match.end(2) if braces else match.end(1)])
        found.metrics.setdefault(name, set()).update(label for label, _, _ in matchers)
        for label, operator, value in matchers:
            words = value.split("|") if "~" in operator else [value]
            found.values.setdefault(label, set()).update(word for word in words if re.fullmatch(r"\w+", word))
    return found


def _quoted_away(expression: str) -> str:
    """The same, with every string made of blanks, so that places stay."""
    return STRING.sub(lambda match: " " * len(match.group()), expression)
