"""When to try again: pure schedules. Jitter is an argument in [0, 1), so that a table can test them."""

from __future__ import annotations

CEILING_SECONDS = 3600.0


def exponential(attempt: int, base_seconds: float, jitter: float, ceiling_seconds: float = CEILING_SECONDS) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first): base, doubled each time, up to a ceiling.

    Half of the wait is fixed and half is drawn by `jitter` ("equal jitter"), so that jobs that failed together do not
    return together, and none returns at once.
    """
    if attempt < 1:
        raise ValueError(f"attempt counts from 1, got {attempt}")
    full = min(ceiling_seconds, base_seconds * 2.0 ** min(attempt - 1, 32))
    return full / 2 + full / 2 * jitter
