"""The summary and the sparkline."""

from __future__ import annotations

import pytest

from postfleet_local.timeline import Summary, Waits, sparkline

SUMMARY = Summary(
    emails=10_040,
    delivered=10_038,
    lost=0,
    duplicated=0,
    unknown=2,
    seconds=40.0,
    waits=Waits(19.3561, 37.0),
    priority_waits=Waits(0.154, 2.0),
    replicas_peak=4,
    replicas_end=0,
)


def test_the_json_has_the_documented_fields_in_their_order() -> None:
    assert list(SUMMARY.as_json().items()) == [
        ("emails", 10_040),
        ("delivered", 10_038),
        ("lost", 0),
        ("duplicated", 0),
        ("unknown", 2),
        ("seconds", 40.0),
        ("emails_per_minute", 15057.0),
        ("wait_p50_seconds", 19.356),
        ("wait_p99_seconds", 37.0),
        ("priority_wait_p50_seconds", 0.154),
        ("priority_wait_p99_seconds", 2.0),
        ("replicas_peak", 4),
        ("replicas_end", 0),
    ]


def test_a_run_in_which_nothing_arrived_has_no_rate() -> None:
    assert Summary(5, 0, 5, 0, 0, 0.0, Waits(), Waits(), 0, 0).emails_per_minute == 0.0


@pytest.mark.parametrize(
    ("values", "width", "bars"),
    [
        pytest.param([], 5, "", id="nothing"),
        pytest.param([0, 0], 5, "▁▁", id="zero"),
        pytest.param([0, 7, 14], 5, "▁▅█", id="scaled to the largest"),
        pytest.param([1, 2, 3, 8, 8, 8], 3, "▃██", id="a bar for several values shows the largest"),
        pytest.param([1, 2], 0, "", id="no room"),
    ],
)
def test_sparkline(values: list[float], width: int, bars: str) -> None:
    assert sparkline(values, width) == bars
