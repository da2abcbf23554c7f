"""When `make bench-chaos` strikes."""

from __future__ import annotations

import io
import random
from typing import Any

import yaml
from chaos import POOL, SESSIONS, THREADS, Chaos
from rich.console import Console


class Service:
    """One that can be killed."""

    def kill(self) -> None:
        pass


class Fleet:
    """As much of a fleet as a plan names."""

    valkey, postgres = Service(), Service()


def chaos(emails: int = 100) -> Chaos:
    fleet: Any = Fleet()
    sink: Any = None
    return Chaos(fleet, sink, random.Random(1), emails, Console(file=io.StringIO()))


def test_the_bound_on_unknown_mail_counts_the_sessions_of_the_pools_threads() -> None:
    assert yaml.safe_load(POOL)["spec"]["worker"]["threads"] == THREADS == SESSIONS / 8


def test_every_blow_falls_within_the_campaign_and_five_are_on_workers() -> None:
    plan = chaos().plan()
    shares = [share for share, _, _ in plan]
    assert shares == sorted(shares)
    assert all(0 < share < 1 for share in shares)
    assert sum("worker" in name for _, name, _ in plan) == 5


def test_what_is_due_falls_once_and_in_order() -> None:
    fallen: list[str] = []
    blows = [
        (share, name, lambda name=name: fallen.append(name)) for share, name in ((0.1, "a"), (0.2, "b"), (0.5, "c"))
    ]
    campaign = chaos()
    campaign.strike(9, blows)
    assert fallen == []
    campaign.strike(20, blows)
    campaign.strike(49, blows)
    assert fallen == ["a", "b"]
    campaign.strike(100, blows)
    assert (fallen, blows) == (["a", "b", "c"], [])
