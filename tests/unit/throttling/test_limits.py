"""Which limits a node's spec and a tenant's row ask for."""

from __future__ import annotations

import pytest

from postfleet_workers.errors import InputError
from postfleet_workers.throttling.limits import (
    Limit,
    campaign_limits,
    node_limits,
    site_limits,
    slowed_limit,
    tenant_limits,
    warmup_limit,
)


def test_a_node_has_a_limit_per_window_that_its_spec_names():
    spec = {"limits": {"perMinute": 100, "perHour": None, "perDay": 5000, "maxConnections": 20}}
    assert node_limits("acme-1", spec) == (
        Limit("postfleet:limit:node:acme-1:minute", "node acme-1 per_minute", 100, 60.0),
        Limit("postfleet:limit:node:acme-1:day", "node acme-1 per_day", 5000, 86_400.0),
    )


@pytest.mark.parametrize("spec", [{}, {"limits": {}}, {"limits": None}, {"limits": {"perHour": None}}])
def test_a_node_without_limits_has_none(spec):
    assert node_limits("acme-1", spec) == ()


def test_a_tenant_has_the_limits_of_its_row():
    assert tenant_limits("acme", None, None) == ()
    assert tenant_limits("acme", 10, 200) == (
        Limit("postfleet:limit:tenant:acme:minute", "tenant acme per_minute", 10, 60.0),
        Limit("postfleet:limit:tenant:acme:day", "tenant acme per_day", 200, 86_400.0),
    )


def test_sites_slow_downs_campaigns_and_warmups_have_limits_of_their_own():
    found = (
        *site_limits("acme-1", "gmail", 60, None, 900),
        slowed_limit("acme-1", "gmail", 1),
        *campaign_limits(7, 50),
        *campaign_limits(8, None),
        warmup_limit("acme-1", 65),
    )
    assert [(limit.key.removeprefix("postfleet:limit:"), limit.name, limit.count) for limit in found] == [
        ("site:acme-1|gmail:minute", "node acme-1 at gmail per_minute", 60),
        ("site:acme-1|gmail:day", "node acme-1 at gmail per_day", 900),
        ("slowed:acme-1|gmail:minute", "node acme-1 at gmail slowed per_minute", 1),
        ("campaign:7:minute", "campaign 7 per_minute", 50),
        ("warmup:acme-1:day", "node acme-1 warmup", 65),
    ]
    assert [limit.reserved for limit in found] == [False] * 4 + [True]


@pytest.mark.parametrize(("count", "seconds"), [(0, 60.0), (-1, 60.0), (1, 0.0)])
def test_a_limit_that_lets_nothing_through_is_refused(count, seconds):
    with pytest.raises(InputError, match="tenant acme per_minute"):
        Limit("k", "tenant acme per_minute", count, seconds)
