"""Whose time a lot took: its jobs ran side by side."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from postfleet_workers.jobs import Done, HandBack, Job, Outcome, Snooze
from postfleet_workers.worker.runner import _shares

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOT = [Job(n, "t", "q", "a", "", {}, 1, 3, 0, 1, NOW, None, NOW, "c", "e") for n in range(4)]
BACK = HandBack("not now")


@pytest.mark.parametrize(
    ("found", "held", "seconds", "each", "aside"),
    [
        pytest.param([Done()] * 4, [2.0] * 4, 2.0, 0.5, 0.5, id="all are done"),
        pytest.param([BACK] * 4, [0.0] * 4, 2.0, 0.5, 0.5, id="all are put back"),
        pytest.param([Done(), BACK, BACK, BACK], [1.0, 0.0, 0.0, 0.0], 1.0, 1.0, 0.0, id="one is done, limits hold"),
        pytest.param(
            [Done(), Done(), Done(), Snooze(5, "silent")], [0.3, 0.1, 0.2, 30.3], 30.3, 0.1, 30.0, id="one was silent"
        ),
    ],
)
def test_the_time_is_of_those_that_were_done(
    found: list[Outcome], held: list[float], seconds: float, each: float, aside: float
) -> None:
    assert _shares(LOT, found, lambda job: held[job.id], seconds) == pytest.approx((each, aside))
