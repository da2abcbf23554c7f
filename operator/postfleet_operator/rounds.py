"""How a loop goes round: look, wait until the next look or until woken; stand by while another replica leads."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Protocol

STAND_BY_SECONDS = 0.5


class Loop(Protocol):
    """What goes round."""

    def look(self) -> float:
        """Look once; the seconds until the next look."""

    def reset(self) -> None:
        """Forget what was done: somebody else may have acted in between."""


def due(now: float, at: float, within: float) -> bool:
    """Whether what is to happen at `at` is due.

    It was set at most `within` seconds ahead: if it is further away than that, the clock was set back, and waiting for
    it could take hours.
    """
    return now >= at or at > now + within


def always() -> bool:
    """The only replica there is leads."""
    return True


def go_round(
    loop: Loop,
    stop: threading.Event,
    woken: threading.Event,
    timed: Callable[[], AbstractContextManager[object]] = contextlib.nullcontext,
    leads: Callable[[], bool] = always,
) -> None:
    """Look until `stop` is set, each time within a `timed()`. `woken` ends a wait; a new lead starts from nothing."""
    led = True
    while not stop.is_set():
        if not leads():
            led = False
            stop.wait(STAND_BY_SECONDS)
            continue
        if not led:
            loop.reset()
            led = True
        with timed():
            seconds = loop.look()
        woken.wait(seconds)
        woken.clear()
