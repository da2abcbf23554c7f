"""The operator's clock, the only module of the package that reads one. Everything else gets `now`."""

from __future__ import annotations

import time


def now() -> float:
    """Epoch seconds."""
    return time.time()
