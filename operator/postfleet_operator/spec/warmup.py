"""`spec.warmup` of a SendingNode: the plan by which a new sending address earns its reputation. Pure.

The workers hold mail to the same plan (`postfleet_workers/mail/warmup.py`); a contract test keeps the two equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_FLOOR, Decimal
from typing import Annotated, Self

from pydantic import BeforeValidator, Field, StringConstraints, model_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.model import Model

START_MISSING = "an enabled warmup needs startDate, the first day of its plan"
MOST_A_DAY = 1_000_000_000
# By then any factor that is allowed is past any target.
LONGEST_DAYS = 10_000


@dataclass(frozen=True, slots=True)
class WarmupDay:
    """A day of the plan: 1 on the start date, 0 and less before it; and the mails that may be accepted on it."""

    day: int
    cap: int


def _is_date(value: object) -> object:
    """Before the bounds of its length, which would say less."""
    if isinstance(value, str):
        try:
            date.fromisoformat(value)
            known = re.fullmatch(names.DATE, value) is not None
        except ValueError:
            known = False
        if not known:
            raise ValueError(f"{value!r} is {names.WORDING[names.DATE]}")
    return value


class Warmup(Model):
    """Explicit days first, then growth from the last of them, until the target has been allowed for a day."""

    enabled: bool = True
    start_date: (
        Annotated[str, StringConstraints(min_length=10, max_length=10, pattern=names.DATE), BeforeValidator(_is_date)]
        | None
    ) = None
    initial_per_day: int = Field(default=50, ge=1, le=MOST_A_DAY)
    growth_factor: Annotated[str, StringConstraints(max_length=6, pattern=names.GROWTH)] = "1.3"
    target_per_day: int = Field(default=50_000, ge=1, le=MOST_A_DAY)
    days: tuple[Annotated[int, Field(ge=1, le=MOST_A_DAY)], ...] = Field(default=(), max_length=366)

    @model_validator(mode="after")
    def _started(self) -> Self:
        if self.enabled and self.start_date is None:
            raise ValueError(START_MISSING)
        return self

    def cap(self, today: date) -> WarmupDay | None:
        """Where the warmup stands on a day of UTC's; None while it is not enabled, and after its end.

        Before the start date the first day's cap holds: an address that waits for its warmup is not a warm one.
        """
        if not self.enabled or self.start_date is None:
            return None
        number = (today - date.fromisoformat(self.start_date)).days
        days, index = self.days or (self.initial_per_day,), max(number, 0)
        if index < len(days):
            return WarmupDay(number + 1, days[index])
        if self._grown(days[-1], index - len(days)) >= self.target_per_day:
            return None
        grown = self._grown(days[-1], index - len(days) + 1)
        return WarmupDay(number + 1, int(min(grown, Decimal(self.target_per_day))))

    def _grown(self, last: int, days: int) -> Decimal:
        return (last * Decimal(self.growth_factor) ** min(days, LONGEST_DAYS)).to_integral_value(ROUND_FLOOR)
