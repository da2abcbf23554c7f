"""The table of what receivers' refusals mean, `rules.toml`, as values. Pure but for reading that file, once.

How the steps follow each other, and what a rule's fields mean, is said at the top of the table.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import Any


class Scope(StrEnum):
    """What a refusal is about. Only the recipient's says something about the address."""

    RECIPIENT = "recipient"
    MESSAGE = "message"
    SOURCE = "source"
    DESTINATION = "destination"


class Permanence(StrEnum):
    """Whether another try may help, where the first digit of the code does not tell."""

    PERMANENT = "permanent"
    TEMPORARY = "temporary"


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text, or an enhanced code, means.

    Attributes:
        id: stable name; what `email_attempts.rule` holds.
        scope: what the refusal is about; None where only the command that was answered tells.
        permanence: None goes by the code's first digit.
        pattern: searched in the text, in lower case and without addresses; None for an enhanced code's rule.
        enhanced: the enhanced codes, without their class, that it needs ('' stands for none); empty: any.
        codes: the codes that it needs; empty: any.
        vague: it tells a scope, but the reply still counts as one that no rule knows.
        source: where that is written.
    """

    id: str
    scope: Scope | None
    permanence: Permanence | None = None
    pattern: re.Pattern[str] | None = None
    enhanced: frozenset[str] = frozenset()
    codes: frozenset[int] = frozenset()
    vague: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The whole table.

    Attributes:
        version: the date of its last change.
        texts: rules by text, the first that fits decides.
        details: rules by enhanced code without its class, `1.1`.
    """

    version: str
    texts: tuple[Rule, ...]
    details: Mapping[str, Rule]


@cache
def rulebook() -> Rulebook:
    """The packaged table."""
    return parse(files(__package__).joinpath("rules.toml").read_text("utf-8"))


def parse(table: str) -> Rulebook:
    """A table from its TOML."""
    found = tomllib.loads(table)
    texts = tuple(_by_text(entry, group["source"]) for group in found["group"] for entry in group["rules"])
    details = {detail: rule for key, entry in found["enhanced"].items() for detail, rule in _by_detail(key, entry)}
    return Rulebook(found["version"], texts, details)


def _by_text(entry: Mapping[str, Any], source: str) -> Rule:
    text = entry["text"]
    return Rule(
        id=entry["id"],
        scope=Scope(entry["scope"]),
        permanence=_permanence(entry),
        pattern=re.compile(text if isinstance(text, str) else "|".join(text)),
        enhanced=frozenset(entry.get("enhanced", ())),
        codes=frozenset(entry.get("codes", ())),
        source=source,
    )


def _by_detail(key: str, entry: Mapping[str, Any]) -> Iterator[tuple[str, Rule]]:
    """The rules of `1.1`, or of a range `7.606-649`: one for each, under the range's name."""
    subject, _, details = key.partition(".")
    first, _, last = details.partition("-")
    scope = Scope(entry["scope"]) if "scope" in entry else None
    rule = Rule(f"iana:{key}", scope, _permanence(entry), vague=entry.get("vague", False), source="IANA")
    for detail in range(int(first), int(last or first) + 1):
        yield f"{subject}.{detail}", rule


def _permanence(entry: Mapping[str, Any]) -> Permanence | None:
    return Permanence(entry["permanence"]) if "permanence" in entry else None
