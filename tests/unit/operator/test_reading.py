"""What Redis answers about queues becomes the signal of a pool."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from postfleet_operator.reading import QueueReading, RelayRecord, parse_record, problems, sum_up
from postfleet_operator.scaling.values import Source

RAW: dict[str, Any] = {
    "at": 1000.0,
    "poll_seconds": 0.5,
    "held": 10,
    "throttled": 5,
    "throttled_by": {"node acme-1 per_minute": 5},
    "scheduled": 7,
    "next_run_at": 2000.5,
    "oldest_seconds": 1.5,
    "running": 3,
    "running_bundles": 2,
    "mean_bundle_size": 2.5,
    "arrivals_per_second": 4.5,
    "permitted": {"node acme-1 perMinute": 10.0},
}
RECORD = RelayRecord(**RAW)


def test_the_relay_s_record_is_read() -> None:
    assert parse_record(json.dumps(RAW)) == RECORD
    assert parse_record(json.dumps(RAW | {"next_run_at": None, "news": 1})) == replace(RECORD, next_run_at=None)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(None, id="absent"),
        pytest.param("{", id="no JSON"),
        pytest.param("[]", id="no object"),
        pytest.param(json.dumps({"at": 1}), id="incomplete"),
        pytest.param(json.dumps(RAW | {"held": "many"}), id="no number"),
        pytest.param(json.dumps(RAW | {"throttled_by": []}), id="no mapping"),
    ],
)
def test_a_broken_record_is_no_record(text: str | None) -> None:
    assert parse_record(text) is None


@pytest.mark.parametrize(
    ("poll_seconds", "age", "stale"),
    [
        pytest.param(1.0, 3.0, False, id="three polls"),
        pytest.param(1.0, 3.1, True, id="more than three polls"),
        pytest.param(0.1, 1.9, False, id="quick polls have the floor of two seconds"),
        pytest.param(0.1, 2.1, True, id="above the floor"),
        pytest.param(1.0, -5.0, False, id="from the future"),
    ],
)
def test_a_silent_relay_is_noticed(poll_seconds: float, age: float, stale: bool) -> None:
    assert replace(RECORD, poll_seconds=poll_seconds).stale(1000.0 + age) is stale


def test_messages_are_counted_as_the_jobs_that_they_carry() -> None:
    signal = sum_up([QueueReading("a", messages=8, listed=4, record=RECORD)])
    assert (signal.ready, signal.in_flight, signal.held) == (10, 10, 10)
    assert signal.backlog == 30
    assert (signal.source, signal.healthy) == (Source.REDIS, True)


def test_half_a_job_is_a_job() -> None:
    assert sum_up([QueueReading("a", 1, 1, replace(RECORD, mean_bundle_size=1.1))]).ready == 2


def test_a_message_fetched_between_two_counts_is_not_negative() -> None:
    assert sum_up([QueueReading("a", messages=3, listed=4, record=RECORD)]).in_flight == 0


def test_queues_add_up() -> None:
    other = replace(RECORD, throttled_by={"tenant x paused": 1, "node acme-1 per_minute": 4}, next_run_at=None)
    late = replace(other, oldest_seconds=9.0, next_run_at=1500.0)
    signal = sum_up([QueueReading("a", 0, 0, RECORD), QueueReading("b", 0, 0, other), QueueReading("c", 0, 0, late)])
    assert signal.throttled == 15
    assert signal.throttled_by == {"node acme-1 per_minute": 13, "tenant x paused": 2}
    assert (signal.scheduled, signal.running, signal.oldest_seconds, signal.next_run_at) == (21, 9, 9.0, 1500.0)


def test_every_reason_to_doubt_is_told() -> None:
    readings = [
        QueueReading("a", 1, 1, RECORD),
        QueueReading("b", 1, 1, None),
        QueueReading("c", 1, 1, replace(RECORD, at=987.4)),
        QueueReading("d", 0, 0, None, "queue d cannot be read in Redis: WRONGTYPE"),
    ]
    assert problems(readings, 1000.0) == [
        "the relay has written no record of queue b",
        "the relay's record of queue c is 12.6 s old",
        "queue d cannot be read in Redis: WRONGTYPE",
    ]
