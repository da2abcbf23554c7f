"""What a tenant, a list and a campaign may be called. Pure."""

from __future__ import annotations

import re

from postfleet_workers.errors import InputError

# Names end up in Redis keys, in file names and on command lines.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")


def checked_name(kind: str, name: str) -> str:
    """`name`, if it can be one.

    Raises:
        InputError: it is empty, longer than 63 characters, or has characters other than letters, digits, `.`, `_`, `-`.
    """
    if not NAME.fullmatch(name):
        raise InputError(
            f"{kind} {name!r} is no name: use 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first"
        )
    return name
