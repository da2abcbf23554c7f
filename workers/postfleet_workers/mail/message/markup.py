"""The tags of HTML that may still hold Liquid, each with its place. Pure.

Nothing here builds a tree: what is changed in a template is changed in its own text, and the rest of it stays as it was
written. Liquid is masked by as many characters, so that places in the mask are places in the text. Every step forward
is final: no text takes more than one pass.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.entities import html5

MASK = "\ue000"
LIQUID = re.compile(r"\{\{.*?(?:\}\}|\Z)|\{%.*?(?:%\}|\Z)", re.DOTALL)
RAW = frozenset({"script", "style", "textarea", "title"})  # their content has no tags
COMMENT = "!--"

_OPEN = re.compile(r"<(?:(!--)|(/?)([A-Za-z][^\s/>]*))")
_END = {name: re.compile(f"</{name}", re.IGNORECASE) for name in RAW}
_SPACE = re.compile(r"[\s/]*")
_ATTRIBUTE = re.compile(r"([^\s=/>][^\s=/>]*)(?:\s*=\s*(?:(?P<quote>[\"'])|(?P<bare>[^\s>]*)))?")
_REFERENCE = re.compile(r"&(?:#([0-9]{1,7});?|#[xX]([0-9a-fA-F]{1,6});?|([A-Za-z][A-Za-z0-9]{1,31};))")


@dataclass(frozen=True, slots=True)
class Attribute:
    """`start` and `end` are the value's, inside its quotes; `quote` is '' without them."""

    name: str
    start: int
    end: int
    quote: str


@dataclass(frozen=True, slots=True)
class Tag:
    """A start tag, an end tag (`closing`) or a comment (`COMMENT`); `name_end` is where its attributes begin."""

    name: str
    start: int
    name_end: int
    end: int
    closing: bool = False
    attributes: tuple[Attribute, ...] = ()

    def attribute(self, name: str) -> Attribute | None:
        """The first attribute of that name."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


def masked(source: str) -> str:
    """The text with `MASK` for each character of Liquid."""
    return LIQUID.sub(lambda found: MASK * len(found[0]), source)


def tags(mask: str) -> Iterator[Tag]:
    """Its tags and comments, in order; what is cut off at the end is none."""
    at = 0
    while found := _OPEN.search(mask, at):
        if found[1]:
            end = mask.find("-->", found.end())
            at = end + 3 if end >= 0 else len(mask)
            yield Tag(COMMENT, found.start(), found.end(), at)
            continue
        name = found[3].lower()
        attributes, at = _attributes(mask, found.end())
        if at < 0:
            return
        closing = bool(found[2])
        yield Tag(name, found.start(), found.end(), at, closing, tuple(attributes))
        if name in RAW and not closing:
            end_tag = _END[name].search(mask, at)
            at = end_tag.start() if end_tag else len(mask)


def unescaped(value: str) -> str:
    """An attribute's value without character references. `&copy=1` in a URL is none: it does not end in a semicolon."""
    if "&" not in value:
        return value
    return _REFERENCE.sub(_character, value)


def _attributes(mask: str, at: int) -> tuple[list[Attribute], int]:
    """A tag's attributes from `at` on, and where it ends; -1 when it does not."""
    attributes: list[Attribute] = []
    while True:
        space = _SPACE.match(mask, at)
        at = space.end() if space else at  # it always matches
        if at >= len(mask):
            return attributes, -1
        if mask[at] == ">":
            return attributes, at + 1
        found = _ATTRIBUTE.match(mask, at)
        if found is None:  # a lone `=`
            at += 1
            continue
        start = at = found.end()
        if quote := found["quote"] or "":
            end = mask.find(quote, start)
            if end < 0:
                return attributes, -1
            at = end + 1
        elif found["bare"] is not None:
            start, end = found.span("bare")
        else:
            end = start
        attributes.append(Attribute(found[1].lower(), start, end, quote))


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name:
        return html5.get(name, found[0])
    point = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(point) if 0 < point < 0x110000 and not 0xD800 <= point < 0xE000 else "\ufffd"
