"""Files that HTML shows by the name of an attachment: `<img src="cid:logo.png">`. Pure.

In a mail each file has an id of its own, which takes the place of its name. A name that stands in the template as it is
can be held against the attachments before there is any mail; one that Liquid makes cannot, and is left alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from itertools import pairwise
from urllib.parse import unquote

from postfleet_workers.errors import InputError
from postfleet_workers.mail.message.markup import MASK, masked, tags, unescaped

_CID = re.compile(r"cid:([^\"'\s()<>]+)")
# A URL begins with the value, or in it: in `url(…)` of a style, after a comma in `srcset`.
_BEGINS = re.compile(rf"(?:^|[\s,(\"']){_CID.pattern}")
_WITH_URLS = frozenset({"src", "srcset", "background", "href", "poster", "data", "style"})
# What stands there is not shown, or not as it stands.
_ELSEWHERE = re.compile(r"\{%-?\s*(comment|doc|capture)\b.*?\{%-?\s*end\1\s*-?%\}", re.DOTALL)


def put_ids(html: str, ids: Mapping[str, str]) -> tuple[str, frozenset[str]]:
    """The HTML with the ids of the files that it shows by name, and those files' names; others stay as they are."""
    shown = set()

    def known(found: re.Match[str]) -> str:
        name = _name(found[1])
        if name not in ids:
            return found[0]
        shown.add(name)
        return f"cid:{ids[name]}"

    return _CID.sub(known, html), frozenset(shown)


def check(html: str | None, names: Collection[str]) -> None:
    """Refuse a template that shows a file which no mail of it will carry.

    Args:
        html: the template.
        names: of its attachments.

    Raises:
        InputError: the first such file: part, line, name.
    """
    for line, name in _shown(html or ""):
        if name not in names:
            attached = f"attached are {', '.join(names)}" if names else "nothing is attached"
            raise InputError(f"html, line {line}: shows cid:{name}, but no attachment has that name; {attached}")


def _shown(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of each file that the template shows for certain; not in comments, which have no tags."""
    if "cid:" not in source:
        return
    mask = masked(_ELSEWHERE.sub(lambda found: MASK * len(found[0]), source))
    found = list(tags(mask))
    spans = [
        (attribute.start, attribute.end)
        for tag in found
        for attribute in tag.attributes
        if attribute.name in _WITH_URLS
    ]
    for tag, following in pairwise(found):
        if tag.name == "style" and not tag.closing:
            spans.append((tag.end, following.start))
    for start, end in sorted(spans):
        for reference in _BEGINS.finditer(mask[start:end]):
            if MASK not in reference[1]:
                yield source.count("\n", 0, start + reference.start(1)) + 1, _name(reference[1])


def _name(reference: str) -> str:
    """The file's name, as a URL in HTML has it: `my%20logo.png`, `a&amp;b.png`."""
    return unquote(unescaped(reference))
