"""The text part of a mail that has only HTML: what a reader would see, line by line. Pure.

Where it can be, it is made of the template, once, and is a template itself: Liquid is carried over, tag by tag, in
order, so that what was balanced stays so. Tables are taken for layout, as they are in mail: cells follow each other.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass, field
from functools import lru_cache

from postfleet_workers.mail.message.markup import COMMENT, LIQUID, Tag, masked, tags, unescaped

# How many line breaks there are around these, at least.
_BREAKS = dict.fromkeys(
    ("article", "aside", "body", "center", "dd", "div", "dl", "dt", "figcaption", "footer", "form", "header", "html",
     "li", "main", "nav", "section", "tbody", "tr"),
    1,
) | dict.fromkeys(
    ("blockquote", "figure", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "ol", "p", "pre", "table", "ul"), 2,
)  # fmt: skip
_HIDDEN = frozenset({"script", "style", "template", "title"})
_VOID = frozenset({"area", "base", "br", "col", "hr", "img", "input", "link", "meta", "wbr"})
_NOT_SHOWN = re.compile(r"display\s*:\s*none", re.IGNORECASE)
_SPACE = re.compile(r"\s+")
_SPACE_AT_END = re.compile(r" (?=\n)")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u034f\u200b\u200c\u2060\ufeff"))  # fills up previews
# What makes HTML of values: their text is known only once they are rendered.
_MAKES_HTML = re.compile(r"\|\s*(?:escape|escape_once|newline_to_br|safe)\b|\{%-?\s*tablerow\b")


@lru_cache(maxsize=64)
def text_template(source: str) -> str | None:
    """The template of the text part for the HTML part's, or None when it must be made of each rendered mail."""
    return None if _MAKES_HTML.search(source) else _text(source, masked(source))


def text_of(rendered: str) -> str:
    """The text of one mail's HTML."""
    return _text(rendered, rendered)


def _text(source: str, mask: str) -> str:
    page = _Page(liquid=source is not mask)
    at = 0
    for tag in tags(mask):
        page.write(source[at : tag.start])
        page.tag(tag, source)
        at = tag.end
    page.write(source[at:])
    return page.text()


@dataclass(slots=True)
class _Page:
    """What is written so far: how it ends, and what is to come before the next word."""

    liquid: bool
    _pieces: list[str] = field(default_factory=list)
    _ended: int = 2  # line breaks at the end of what is written
    _space: bool = True  # it ends in white space
    _due: int = 0  # line breaks before the next word
    _hidden: str = ""  # inside this element, which is not shown
    _depth: int = 0
    _links: list[tuple[str, int]] = field(default_factory=list)  # targets, and where their words begin

    def text(self) -> str:
        words = _SPACE_AT_END.sub("", "".join(self._pieces)).strip()
        return f"{words}\n" if words else ""

    def write(self, text: str) -> None:
        """Words, and Liquid between them. What `{%-` trims is trimmed here: in the text it would trim line breaks."""
        if self._hidden:
            self._carry(text)
            return
        at, trimmed = 0, False
        for found in LIQUID.finditer(text) if self.liquid else ():
            words = text[at : found.start()]
            words = words.lstrip() if trimmed else words
            self._words(words.rstrip() if found[0][2:3] == "-" else words)
            self._liquid(found[0])
            trimmed = found[0][-3:-2] == "-"
            at = found.end()
        self._words(text[at:].lstrip() if trimmed else text[at:])

    def tag(self, tag: Tag, source: str) -> None:
        if self._hidden:
            self._depth += (tag.name == self._hidden) * (-1 if tag.closing else 1)
            self._hidden = self._hidden if self._depth else ""
        elif tag.name != COMMENT and (tag.closing or not _hides(tag, source)):
            self._due = max(self._due, _BREAKS.get(tag.name, 0))
            self._show(tag, source)
        elif tag.name != COMMENT and tag.name not in _VOID:
            self._hidden, self._depth = tag.name, 1
        if tag.name != "a":  # what its `href` holds is carried with the target
            self._carry(source[tag.start : tag.end])

    def _show(self, tag: Tag, source: str) -> None:
        match tag.name:
            case "a":
                self._link(tag, source)
            case "br":
                self._due = min(2, max(self._due, self._ended) + 1)
            case "hr":
                self._words("-----")
                self._due = 2
            case "img" if alt := tag.attribute("alt"):
                self.write(source[alt.start : alt.end])
            case "li" if not tag.closing:
                self._words("- ")
            case "td" | "th":
                self._words(" ")

    def _link(self, tag: Tag, source: str) -> None:
        if not tag.closing:
            href = tag.attribute("href")
            self._links.append((source[href.start : href.end].strip() if href else "", len(self._pieces)))
        elif self._links:
            target, begin = self._links.pop()
            words = "".join(self._pieces[begin:]).strip()
            target = LIQUID.sub(_untrimmed, unescaped(target)) if self.liquid else unescaped(target)
            if target and not target.startswith("#") and words not in (target, target.partition(":")[2].lstrip("/")):
                self._pieces.append(f"<{target}>" if self._space else f" <{target}>")
                self._ended, self._space = 0, False

    def _words(self, text: str) -> None:
        words = _SPACE.sub(" ", html.unescape(text).translate(_INVISIBLE))
        if words == " " and self._due:
            return
        if words and words != " ":
            self._break()
        words = words.removeprefix(" ") if self._space else words
        if words:
            self._pieces.append(words)
            self._ended, self._space = 0, words.endswith(" ")

    def _liquid(self, token: str) -> None:
        self._break()
        self._pieces.append(_untrimmed(token))
        if token.startswith("{{"):
            self._ended, self._space = 0, False

    def _carry(self, text: str) -> None:
        for found in LIQUID.finditer(text) if self.liquid else ():
            if found[0].startswith("{%"):
                self._liquid(found[0])

    def _break(self) -> None:
        if self._due > self._ended:
            self._pieces.append("\n" * (self._due - self._ended))
            self._ended, self._space = self._due, True
        self._due = 0


def _hides(tag: Tag, source: str) -> bool:
    style = tag.attribute("style")
    return (
        tag.name in _HIDDEN
        or tag.attribute("hidden") is not None
        or bool(style and _NOT_SHOWN.search(source, style.start, style.end))
    )


def _untrimmed(token: str | re.Match[str]) -> str:
    text = token if isinstance(token, str) else token[0]
    return text[:2] + text[2:-2].removeprefix("-").removesuffix("-") + text[-2:]
