"""How much a new sending address may send on each day of its warmup. Pure.

Receivers distrust an address that they have never seen and that sends much at once. The plan of a node's spec says how
its volume grows: by explicit `days`, and from the last of them (or from `initialPerDay`) by `growthFactor` a day, until
`targetPerDay` has been allowed for a day. Then the warmup is over. SendGrid's published ramp grows by about 1.4 a day,
Mailtrap's by 1.3. Days are UTC's: there is one calendar, and it is the limits'.

The operator shows the same plan (`postfleet_operator/spec/warmup.py`); a contract test holds the two equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_FLOOR, Decimal
from typing import Any

INITIAL_PER_DAY = 50
GROWTH_FACTOR = "1.3"
TARGET_PER_DAY = 50_000
# By then any factor that a spec may have, 1.01 and above, is past any target.
LONGEST_DAYS = 10_000


@dataclass(frozen=True, slots=True)
class WarmupDay:
    """A day of the plan.

    Attributes:
        day: 1 on the start date; 0 and less before it.
        cap: mails that may be accepted on it.
    """

    day: int
    cap: int


def cap(spec: Mapping[str, Any] | None, today: date) -> WarmupDay | None:
    """Where a node's warmup stands today, in UTC; None without one, and after its end.

    Before the start date the first day's cap holds: an address that waits for its warmup is not a warm one.

    Args:
        spec: `spec.warmup` of the node as the mirror holds it (camelCase); absent and null count as the default.
        today: today's date in UTC.
    """
    if not spec or not spec.get("enabled", True) or not spec.get("startDate"):
        return None
    days = tuple(spec.get("days") or ()) or (spec.get("initialPerDay") or INITIAL_PER_DAY,)
    target = spec.get("targetPerDay") or TARGET_PER_DAY
    number = (today - date.fromisoformat(spec["startDate"])).days
    index = max(number, 0)
    if index < len(days):
        return WarmupDay(number + 1, int(days[index]))
    growth = Decimal(spec.get("growthFactor") or GROWTH_FACTOR)
    if _grown(days[-1], growth, index - len(days)) >= target:
        return None
    return WarmupDay(number + 1, int(min(_grown(days[-1], growth, index - len(days) + 1), Decimal(target))))


def _grown(last: int, growth: Decimal, days: int) -> Decimal:
    return (last * growth ** min(days, LONGEST_DAYS)).to_integral_value(ROUND_FLOOR)
