"""The pages that people see, and the picture that nobody does. Pure: constants, so that no page repeats what was asked.

A screen reader and a keyboard are enough; without styles they read the same.
"""

from __future__ import annotations

import base64
import hashlib

STYLE = (
    ":root{color-scheme:light dark;font:1.125rem/1.5 system-ui,sans-serif}"
    "main{max-width:34rem;margin:15vh auto 0;padding:0 1.5rem}"
    "button{font:inherit;padding:.6rem 1.4rem;border:2px solid;border-radius:.4rem;cursor:pointer}"
    "button:focus-visible{outline:3px solid Highlight;outline-offset:3px}"
)
# Nothing is loaded, nothing runs, nobody frames it; the one form goes back to where it came from.
POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()}'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# 1x1, transparent.
PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")


def _page(title: str, body: str) -> bytes:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta name="robots" content="noindex">\n<title>{title}</title>\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n<main>\n<h1>{title}</h1>\n{body}\n</main>\n</body>\n</html>\n"
    ).encode()


# The button sends what RFC 8058 has mail programs send: one kind of request unsubscribes.
CONFIRM = _page(
    "Unsubscribe?",
    "<p>You will get no more mailings from this sender at this address.</p>\n"
    '<form method="post">\n'
    '<button type="submit" name="List-Unsubscribe" value="One-Click">Unsubscribe</button>\n'
    "</form>",
)
DONE = _page("You are unsubscribed", "<p>You will get no more mailings from this sender at this address.</p>")
AWAY = _page(
    "Not yet", "<p>We could not write this down just now: you are not unsubscribed. Please try again in a minute.</p>"
)
GONE = _page("This link is no longer known", "<p>The mail that it was in is no longer known here.</p>")
NOT_FOUND = _page("Nothing here", "<p>The link is not complete, or not one of ours.</p>")
TOO_SLOW = _page("Too slow", "<p>The rest of the request did not come. Please try again.</p>")
TOO_MUCH = _page("Too much", "<p>That was more than this page takes.</p>")
WRONG_METHOD = _page("Not like this", "<p>This address takes no such request.</p>")
