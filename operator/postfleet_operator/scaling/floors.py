"""The floors that schedules set: from each fire of a cron expression, for some minutes, in its own time zone. Pure.

Cron's days and hours are those of the time zone, daylight saving included (cronsim follows Debian's cron there).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo

from cronsim import CronSim

from postfleet_operator.spec.pool import Schedule

NO_TIME = timedelta(0)


def floor(schedules: Sequence[Schedule], now: float, startup_seconds: float) -> tuple[int, Schedule | None]:
    """The highest floor at `now`, and the schedule that sets it.

    A floor is raised a start-up ahead of its fire, so that the workers are there when it comes.
    """
    best: tuple[int, Schedule | None] = (0, None)
    for schedule in schedules:
        if schedule.min_replicas > best[0] and (active(schedule, now) or active(schedule, now + startup_seconds)):
            best = (schedule.min_replicas, schedule)
    return best


def active(schedule: Schedule, now: float) -> bool:
    """Whether `now`, epoch seconds, lies within `durationMinutes` of a fire."""
    last = _last_fire(schedule.cron, schedule.timezone, int(now // 60))
    return last is not None and now < last + timedelta(minutes=schedule.duration_minutes).total_seconds()


@lru_cache(maxsize=4096)
def _last_fire(cron: str, timezone: str, minute: int) -> float | None:
    # In reverse, the first one is the last fire strictly before: a second past the minute lets its own fire count.
    now = datetime.fromtimestamp(minute * 60 + 1, UTC)
    local = now.astimezone(ZoneInfo(timezone))
    # In an hour that comes for the second time, cronsim takes the clock's word and believes to be in the first. So it
    # is asked from after that hour, and what has not fired yet passed over.
    asked = now + ((local.replace(fold=0).utcoffset() or NO_TIME) - (local.utcoffset() or NO_TIME))
    fires = (fire.timestamp() for fire in CronSim(cron, asked.astimezone(local.tzinfo), reverse=True))
    return next((fire for fire in fires if fire < now.timestamp()), None)
