"""Wait for a server when a command starts: say so once, and give up with a line that tells what to check."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from postfleet_workers import clock
from postfleet_workers.errors import TransientError

log = structlog.get_logger(__name__)

ASK_AGAIN_SECONDS = 0.5


def until_it_answers(server: str, variable: str, ask: Callable[[], object], wait_seconds: float) -> None:
    """Return once `ask` raises no TransientError.

    Raises:
        TransientError: of the kind that `ask` raised last, after `wait_seconds`.
    """
    deadline = clock.monotonic() + wait_seconds
    announced = False
    while True:
        try:
            ask()
        except TransientError as error:
            if clock.monotonic() >= deadline:
                raise type(error)(f"{error} (waited {wait_seconds:.0f} s; check {variable})") from error
            if not announced:
                announced = True
                log.warning("waiting", server=server, seconds=wait_seconds, error=str(error).splitlines()[0])
            clock.pause(ASK_AGAIN_SECONDS)
        else:
            return
