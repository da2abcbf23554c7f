"""Times as people give them: a moment, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import click

Moment = datetime | timedelta

if TYPE_CHECKING:
    from sqlalchemy import Connection

    _Base = click.ParamType[Moment]
else:
    _Base = click.ParamType  # generic in newer versions only

_AGO = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class MomentType(_Base):
    """`2h`, `30m`, `7d` (ago) or an ISO 8601 time, in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Moment:
        """Parse it; a bad one is a usage error."""
        if isinstance(value, datetime | timedelta):
            return value
        if match := _AGO.fullmatch(value):
            return timedelta(**{_UNITS[match[2]]: int(match[1])})
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time; give 2h, 7d or 2026-03-01T12:00", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


MOMENT = MomentType()


def as_time(connection: Connection, moment: Moment) -> datetime:
    """A moment on the database's clock."""
    from sqlalchemy import text

    if not isinstance(moment, timedelta):
        return moment
    now: datetime = connection.execute(text("SELECT postfleet_now()")).scalar_one()
    return now - moment
