"""Style sheets into the tags that they style, because many mail programs read nothing else. Pure.

The template's own text is changed, not a tree of it: each start tag is numbered, css-inline works the sheets out on a
copy, and what it found is written into the tags' `style` before what stands there already, so that CSS itself decides
as before. What cannot be inlined (`:hover`, `@media`) stays in `<style>`.

Where Liquid decides what a sheet applies to, inlining before rendering could be wrong, so nothing is inlined, unless a
sheet asks for it after rendering: `<style data-css-inline="rendered">`. Sheets with `data-css-inline="ignore"` stay.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from css_inline import CSSInliner, InlineError

from postfleet_workers.mail.message.markup import COMMENT, MASK, Tag, masked, tags

NUMBER = "data-postfleet-tag"
MODE = "data-css-inline"
_BLOCK = re.compile(r"\{%-?\s*(?:if|unless|case|for|tablerow|ifchanged)\b")
_BLOCK_END = re.compile(r"\{%-?\s*end(?!comment|raw|capture|doc)")
# What else is beside an element, or inside it, is not known before rendering.
_BESIDE = re.compile(r"[+~\[]|:(?:first|last|nth|only|empty|not|has|is|where)")
# No sheet is fetched: a template names no server, and no file, that this process would read.
_INLINER = CSSInliner(keep_style_tags=True, remove_inlined_selectors=True, load_remote_stylesheets=False)


@dataclass(frozen=True, slots=True)
class Styled:
    """A template with its sheets inlined; `late`: they are to be inlined in each mail, once it is rendered."""

    source: str
    late: bool = False


@lru_cache(maxsize=64)
def styled(source: str) -> Styled:
    """The template with its sheets inlined, as far as that is the same as doing so after rendering."""
    if "<style" not in source.lower():
        return Styled(source)
    mask = masked(source)
    found = list(tags(mask))
    sheets = [tag for tag in found if tag.name == "style" and not tag.closing and _mode(source, tag) != "ignore"]
    if not sheets:
        return Styled(source)
    if _unknown(source, mask, found, sheets):
        return Styled(source, late=any(_mode(source, sheet) == "rendered" for sheet in sheets))
    return Styled(_inlined(source, mask, found))


def inlined(html: str) -> str:
    """One mail's HTML with its sheets inlined. This takes longer than everything else about the mail."""
    return _inlined(html, html, list(tags(html)))


def _mode(source: str, sheet: Tag) -> str:
    mode = sheet.attribute(MODE)
    return source[mode.start : mode.end] if mode else ""


def _content(mask: str, found: Iterable[Tag], sheet: Tag) -> str:
    return next((mask[sheet.end : tag.start] for tag in found if tag.start >= sheet.end), "")


def _unknown(source: str, mask: str, found: Sequence[Tag], sheets: Sequence[Tag]) -> bool:
    """Whether the sheets, or what they apply to, are known only when the template is rendered."""
    css = "".join(_content(mask, found, sheet) for sheet in sheets)
    if MASK in css or (_BESIDE.search(css) and _BLOCK.search(source)):
        return True
    last = source[: sheets[-1].start]
    if len(_BLOCK.findall(last)) > len(_BLOCK_END.findall(last)):
        return True
    return any(
        MASK in attribute.name or (attribute.name in ("class", "id") and MASK in mask[attribute.start : attribute.end])
        for tag in found
        for attribute in tag.attributes
    )


def _inlined(source: str, mask: str, found: Sequence[Tag]) -> str:
    try:
        worked_out = _INLINER.inline(_numbered(mask, found))
    except InlineError:
        return source
    styles, sheets = _results(worked_out)
    pieces, at = [], 0
    for number, tag in enumerate(found):
        if number in sheets and number + 1 < len(found):
            end = found[number + 1]
            pieces += [source[at : tag.start], _sheet(source[tag.start : tag.end], sheets[number])]
            at = end.end
        elif style := styles.get(number):
            own = tag.attribute("style")
            if own is None:
                pieces += [source[at : tag.name_end], f' style="{style}"']
                at = tag.name_end
            elif own.quote:
                pieces += [source[at : own.start], style.replace("'", "&#39;") if own.quote == "'" else style]
                at = own.start
    return "".join([*pieces, source[at:]])


def _numbered(mask: str, found: Sequence[Tag]) -> str:
    """A copy in which each start tag has its number, and no style of its own."""
    pieces, at = [], 0
    for number, tag in enumerate(found):
        if tag.closing or tag.name == COMMENT:
            continue
        pieces += [mask[at : tag.name_end], f' {NUMBER}="{number}"']
        at = tag.name_end
        if own := tag.attribute("style"):
            pieces.append(mask[at : own.start])
            at = own.end
    return "".join([*pieces, mask[at:]])


def _results(worked_out: str) -> tuple[Mapping[int, str], Mapping[int, str]]:
    """By the tags' numbers: styles, as they stand in an attribute with double quotes, and what is left of sheets."""
    styles: dict[int, str] = {}
    sheets: dict[int, str] = {}
    found = list(tags(worked_out))
    for place, tag in enumerate(found):
        number = tag.attribute(NUMBER)
        if number is None:
            continue
        key = int(worked_out[number.start : number.end])
        if tag.name == "style" and _mode(worked_out, tag) != "ignore":
            sheets[key] = _content(worked_out, found[place + 1 :], tag)
        elif style := tag.attribute("style"):
            text = worked_out[style.start : style.end].strip()
            styles.setdefault(key, text if text.endswith(";") else f"{text};")
    return styles, sheets


def _sheet(tag: str, css: str) -> str:
    return f"{tag}{css.strip()}</style>" if css.strip() else ""
