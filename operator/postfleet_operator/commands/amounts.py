"""What options take: numbers within bounds, and durations."""

from __future__ import annotations

import math
import re
from typing import Any

import click

UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


class Number(click.ParamType[float]):
    """A number within bounds; `inf` and `nan` are none."""

    name = "number"

    def __init__(self, least: float, most: float, *, above: bool = False) -> None:
        self._least, self._most, self._above = least, most, above

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Read it."""
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if not self._least <= number <= self._most or (self._above and number == self._least):
            words = (
                f"above {self._least:g}, at most {self._most:g}"
                if self._above
                else f"{self._least:g} to {self._most:g}"
            )
            self.fail(f"{value!r} is no number {words}", param, ctx)
        return number


class Duration(click.ParamType[int]):
    """`90s`, `15m`, `24h`, `7d`: whole seconds, a minute to `most`."""

    name = "duration"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Read it."""
        if isinstance(value, int):
            return value
        found = re.fullmatch(r"([0-9]{1,9})([smhd])", str(value))
        seconds = int(found[1]) * UNITS[found[2]] if found else 0
        if not 60 <= seconds <= self._most:
            days = self._most // UNITS["d"]
            self.fail(f"{value!r} is no duration from 60s to {days}d, such as 90s, 15m, 24h or 7d", param, ctx)
        return seconds
