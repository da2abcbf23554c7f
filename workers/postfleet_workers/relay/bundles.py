"""How many jobs one message carries. Pure.

A bundle holds about `target_seconds` of measured work. A route that was never measured starts with bundles of one and
doubles towards that, so that a slow receiver never gets fifty mails in one thread.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item")


def size(*, limit: int, previous: int | None, pace_seconds: float | None, target_seconds: float) -> int:
    """Jobs per bundle for a route.

    Args:
        limit: the type's `bundle_size`.
        previous: the size last used for the route; None for a new one.
        pace_seconds: measured seconds per job; None when unmeasured.
        target_seconds: work that one bundle should hold.
    """
    if previous is None or pace_seconds is None:
        return 1
    wanted = limit if pace_seconds <= 0 else int(target_seconds / pace_seconds)
    return max(1, min(limit, wanted, previous * 2))


def spread(size: int, *, due: int, slots: int) -> int:
    """A smaller size where there are more free slots than full bundles: the work is shared by more threads."""
    return max(1, min(size, -(-due // max(1, slots))))


def chunks(items: Iterable[Item], size: int) -> Iterator[Sequence[Item]]:
    """Cut `items` into bundles of at most `size`."""
    rest = iter(items)
    while chunk := list(islice(rest, size)):
        yield chunk
