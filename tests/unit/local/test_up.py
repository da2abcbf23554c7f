"""How `postfleet-local up` waits for its end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from postfleet_local import up


@pytest.fixture
def interrupt() -> Iterator[signal.Signals]:
    """A signal that interrupts, whatever SIGINT does to whoever runs the tests."""
    before = signal.signal(signal.SIGUSR1, signal.default_int_handler)
    yield signal.SIGUSR1
    signal.signal(signal.SIGUSR1, before)


def test_an_interrupt_that_wakes_nobody_is_seen(interrupt: signal.Signals) -> None:
    # As one that comes right before the wait: taken by another thread, it does not end the main thread's wait.
    threading.Timer(0.05, signal.raise_signal, [interrupt]).start()
    with pytest.raises(KeyboardInterrupt):
        up.wait_for_interrupt()
