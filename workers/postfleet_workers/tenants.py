"""Tenants as people set them: weight, limits, pause."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, text

from postfleet_workers.errors import InputError

# What was not given keeps its stored value; a limit needs a flag of its own, since None lifts it.
SET = text("""
INSERT INTO tenants AS t (name, weight, per_minute, per_day, paused)
VALUES (:name, coalesce(CAST(:weight AS integer), 1), CAST(:per_minute AS integer), CAST(:per_day AS integer),
        coalesce(CAST(:paused AS boolean), false))
ON CONFLICT (name) DO UPDATE SET
    weight = coalesce(CAST(:weight AS integer), t.weight),
    per_minute = CASE WHEN :set_per_minute THEN CAST(:per_minute AS integer) ELSE t.per_minute END,
    per_day = CASE WHEN :set_per_day THEN CAST(:per_day AS integer) ELSE t.per_day END,
    paused = coalesce(CAST(:paused AS boolean), t.paused)
RETURNING name, weight, per_minute, per_day, paused
""")
FIND = text("SELECT true FROM tenants WHERE name = :name")


@dataclass(frozen=True, slots=True)
class Limit:
    """A new value of a limit; `count=None` lifts it."""

    count: int | None


def require(connection: Connection, name: str) -> None:
    """Refuse a tenant that nobody has made.

    Raises:
        InputError: there is none of this name.
    """
    if connection.scalar(FIND, {"name": name}) is None:
        raise InputError(f"tenant {name!r} does not exist; `postfleet tenants set {name}` makes it")


def set_tenant(
    connection: Connection,
    name: str,
    *,
    weight: int | None = None,
    per_minute: Limit | None = None,
    per_day: Limit | None = None,
    paused: bool | None = None,
) -> dict[str, Any]:
    """Make or change a tenant; None leaves a value as it is. Returns the row.

    The relay sees it at its next look.
    """
    parameters = {
        "name": name,
        "weight": weight,
        "per_minute": per_minute and per_minute.count,
        "set_per_minute": per_minute is not None,
        "per_day": per_day and per_day.count,
        "set_per_day": per_day is not None,
        "paused": paused,
    }
    return dict(connection.execute(SET, parameters).mappings().one())
