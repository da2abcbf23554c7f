"""The operator's clock, the only module of the package that reads one. Everything else gets `now`."""

from __future__ import annotations

import time


def now() -> float:
    """Epoch seconds."""
    return time.time()


def monotonic() -> float:
    """Seconds that only ever go forward, also while the process is stopped; from an arbitrary start."""
    return time.monotonic()
