from __future__ import annotations

import pytest

from postfleet_workers.campaigns.status import visible_state


@pytest.mark.parametrize(
    ("state", "counts", "held", "visible"),
    [
        ("draft", {}, False, "draft"),
        ("expanding", {}, False, "expanding"),
        ("expanding", {"sent": 5}, True, "paused"),
        ("running", {"sent": 5, "queued": 1}, False, "running"),
        ("running", {"sent": 5, "deferred": 1}, True, "paused"),
        ("running", {"sent": 5, "sending": 1}, False, "running"),
        ("running", {"sent": 5, "bounced": 1, "unknown": 1}, False, "completed"),
        ("running", {"sent": 5}, True, "completed"),
        ("cancelled", {"sending": 1}, True, "cancelled"),
    ],
)
def test_the_state_that_people_see(state: str, counts: dict[str, int], held: bool, visible: str) -> None:
    assert visible_state(state, counts, held=held) == visible
