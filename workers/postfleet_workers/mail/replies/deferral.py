"""When a deferred mail is tried again. Pure.

A deferral is not one of a job's attempts: it has a schedule of its own, the first wait five minutes (greylisting lets
nobody pass sooner), doubling up to `LONGEST_SECONDS`, with jitter that only adds, until the mail is too old (RFC 5321
4.5.4.1: 4 to 5 days).
"""

from __future__ import annotations

JITTER = 0.2
# Exim's default (`F,4d,6h`): a server that was away for days, or a block that was lifted, is noticed within hours.
LONGEST_SECONDS = 6 * 3600.0
MAX_DOUBLINGS = 64  # more would overflow


def wait_seconds(deferrals: int, *, base_seconds: float, jitter: float) -> float:
    """Seconds to wait after the deferral that follows `deferrals` earlier ones; `jitter` is uniform in [0, 1)."""
    doubled = base_seconds * 2.0 ** min(deferrals, MAX_DOUBLINGS)
    return min(doubled, max(base_seconds, LONGEST_SECONDS)) * (1.0 + JITTER * jitter)


def next_wait_seconds(
    deferrals: int, age_seconds: float, *, base_seconds: float, max_age_seconds: float, jitter: float
) -> float | None:
    """Seconds until the next try of a mail first tried `age_seconds` ago; None when it is time to give up.

    The last try is made when the maximum age is reached, not skipped because the next wait would overshoot it.
    """
    left = max_age_seconds - age_seconds
    if left <= 0:
        return None
    return min(wait_seconds(deferrals, base_seconds=base_seconds, jitter=jitter), left)
