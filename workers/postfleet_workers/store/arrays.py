"""Arrays as PostgreSQL writes them, for parameters that a statement casts (`CAST(:ids AS bigint[])`). Pure.

A driver that is given a list looks at each of its elements to find out what it is, which costs more than all the rest
of a statement over fifty rows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable


def plain(values: Iterable[object]) -> str:
    """Numbers, booleans and times; None is NULL."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"


def texts(values: Collection[str | None]) -> str:
    """Texts, whatever is in them but NUL, which no text of PostgreSQL can hold; None is NULL."""
    written = {value: _quoted(value) for value in set(values)}  # a bundle's have much in common
    return "{" + ",".join([written[value] for value in values]) + "}"


def _quoted(value: str | None) -> str:
    if value is None:
        return "NULL"
    if "\\" in value or '"' in value:
        value = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{value}"'
