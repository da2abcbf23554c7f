"""What a mail counts against at its node and at its site, slow-downs and warmup included."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.mail.admission import AT_FULL_SPEED, Slowed, limits_at, limits_of_node, sessions_at, slowed
from postfleet_workers.mail.sites import SiteLimits

TODAY = date(2026, 3, 2)
WARMUP = {"enabled": True, "startDate": "2026-03-01", "days": [20, 28]}


def row(site: str, action: str, value: int | None = None) -> dict[str, Any]:
    return {"site": site, "action": action, "value": value, "rule": "yahoo-tss04", "seconds": 7200}


def test_a_node_in_its_warmup_has_the_days_cap_besides_its_rates():
    found = limits_of_node("n1", {"limits": {"perHour": 10}, "warmup": WARMUP}, TODAY)
    assert [(limit.name, limit.count, limit.reserved) for limit in found] == [
        ("node n1 per_hour", 10, False),
        ("node n1 warmup", 28, True),
    ]
    assert limits_of_node("n1", {"warmup": {**WARMUP, "enabled": False}}, TODAY) == ()


def test_a_cap_that_lets_nothing_through_is_refused():
    with pytest.raises(InputError, match="node n1 warmup"):
        limits_of_node("n1", {"warmup": {**WARMUP, "days": [20, 0, 5]}}, date(2026, 3, 2))


def test_slow_downs_are_gathered_by_site():
    rows = [row("yahoo", "suspend"), row("gmail", "per_minute", 10), row("gmail", "connections", 1)]
    assert slowed(rows) == {
        "yahoo": Slowed("suspended by yahoo-tss04", 7200.0),
        "gmail": Slowed(per_minute=10, connections=1),
    }


def test_a_slow_down_is_one_more_limit_at_the_site():
    own = SiteLimits(per_minute=60, per_day=900)
    assert [limit.name for limit in limits_at("n1", "gmail", own, AT_FULL_SPEED)] == [
        "node n1 at gmail per_minute",
        "node n1 at gmail per_day",
    ]
    (*_, last) = limits_at("n1", "gmail", own, Slowed(per_minute=1))
    assert (last.name, last.count) == ("node n1 at gmail slowed per_minute", 1)


@pytest.mark.parametrize(
    ("own", "slow", "left"),
    [
        pytest.param(5, None, 5, id="not slowed"),
        pytest.param(5, 1, 1, id="fewer"),
        pytest.param(2, 4, 2, id="already fewer"),
        pytest.param(None, 3, 3, id="a site without a limit of its own"),
    ],
)
def test_a_slow_down_never_gives_more_sessions(own: int | None, slow: int | None, left: int | None):
    assert sessions_at(SiteLimits(max_connections=own), Slowed(connections=slow)).max_connections == left
