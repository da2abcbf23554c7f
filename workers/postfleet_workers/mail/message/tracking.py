"""Opens and clicks: links that lead through `postfleet web`, and a picture that tells that it was fetched. Pure.

`marked` finds once, in the template, where the links of `<a href>` stand, and puts a NUL before and after each; no
template and no value from PostgreSQL holds one. `tracked` puts in each mail's own links. What a link leads to is known
only then, as it may be a contact's: what is not http(s), and the link to unsubscribe, stays as it is.
"""

from __future__ import annotations

import re
from functools import lru_cache
from operator import itemgetter

from postfleet_workers.mail.message.links import LONGEST_URL, Links
from postfleet_workers.mail.message.markup import MASK, masked, tags, unescaped

MARK = "\0"
PIXEL = f'<img src="{MARK}{MARK}" width="1" height="1" alt="">'
_WEB = re.compile(r"https?://[^\s]", re.IGNORECASE)
_BEGINS_LIKE_WEB = re.compile(rf"\s*(?:{MASK}|https?:)", re.IGNORECASE)


@lru_cache(maxsize=64)
def marked(source: str, *, opens: bool, clicks: bool) -> str:
    """The HTML, a template or rendered, with marks where links are to be, and the picture at its end."""
    if not (opens or clicks):
        return source
    mask = masked(source)
    found = list(tags(mask))
    inserts: list[tuple[int, str]] = []
    for tag in found if clicks else ():
        href = tag.attribute("href") if tag.name in ("a", "area") and not tag.closing else None
        if href is not None and _BEGINS_LIKE_WEB.match(mask, href.start, href.end):
            inserts += [(href.start, MARK), (href.end, MARK)]
    if opens:
        bodies = [tag.start for tag in found if tag.name == "body" and tag.closing]
        inserts.append((bodies[-1] if bodies else len(source), PIXEL))
    pieces, at = [], 0
    for place, text in sorted(inserts, key=itemgetter(0)):
        pieces += [source[at:place], text]
        at = place
    return "".join([*pieces, source[at:]])


def tracked(html: str, links: Links, email_id: int, unsubscribe_url: str) -> str:
    """One mail's HTML with its own links in the place of what is between marks."""
    pieces = html.split(MARK)
    for number in range(1, len(pieces), 2):
        url = unescaped(pieces[number]).strip()
        if not url:
            pieces[number] = links.open(email_id)
        elif _WEB.match(url) and url != unsubscribe_url and len(url) <= LONGEST_URL:
            pieces[number] = links.click(email_id, url)
    return "".join(pieces)
