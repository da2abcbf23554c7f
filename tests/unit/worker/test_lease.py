"""How often a worker process renews its lease, which is also how often it says what it has done."""

from __future__ import annotations

from itertools import islice

import pytest

from postfleet_workers.worker.lease import beats


@pytest.mark.parametrize(
    ("lease", "waits"),
    [
        pytest.param(60.0, [1.0, 5.0, 5.0], id="a long lease reports often all the same, and soon at first"),
        pytest.param(12.0, [1.0, 2.0, 2.0], id="six times a lease"),
        pytest.param(3.0, [0.5, 0.5, 0.5], id="a short one"),
    ],
)
def test_the_waits_before_renewals(lease: float, waits: list[float]) -> None:
    assert list(islice(beats(lease), 3)) == waits
