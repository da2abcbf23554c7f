"""Admission with real processes: pauses that bite in claimed bundles, and what a killed worker held."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from fleet import Fleet
from integration.mail_steps import QUEUES, add_node, copies, final, mail, statuses
from provider_lab import TARPIT, ProviderLab
from smtp_lab import FaultyLab, Phase, running

pytestmark = pytest.mark.faults
BATCH = "campaign:1"


@pytest.fixture
def slow() -> Iterator[ProviderLab]:
    """Takes about a second for each mail."""
    with running(ProviderLab(replace(TARPIT, connections=0))) as lab:
        yield lab


@pytest.mark.parametrize("how", ["pause", "cancel"])
def test_a_pause_or_cancel_bites_within_seconds_in_claimed_bundles_too(
    fleet: Fleet, engine: Engine, slow: ProviderLab, how: str
) -> None:
    add_node(engine, "n1", slow.port)
    fleet.relay()
    mail(engine, 60)
    fleet.execute("UPDATE jobs SET batch = :batch", batch=BATCH)
    fleet.worker(QUEUES, threads=2)
    fleet.until(lambda: len(slow.arrived) >= 4, "mail arrives")
    fleet.execute("INSERT INTO holds (kind, key) VALUES ('batch', :batch)", batch=BATCH)
    if how == "cancel":
        fleet.execute("UPDATE jobs SET cancel_requested = true WHERE batch = :batch", batch=BATCH)
    fleet.until(lambda: "executing" not in fleet.states(), "no bundle runs any more", 10)
    arrived = len(slow.arrived)
    assert arrived < 30
    threading.Event().wait(2)  # four polls of the relay
    assert len(slow.arrived) == arrived
    assert statuses(fleet)["sent"] == arrived


def test_what_a_killed_worker_held_of_a_site_is_free_again_and_every_mail_goes_once(
    fleet: Fleet, engine: Engine
) -> None:
    release = threading.Event()
    with running(FaultyLab()) as lab:
        sites: Any = [{"name": "default", "maxConnections": 1}, {"name": "example.org", "maxConnections": 1}]
        add_node(engine, "n1", lab.port, sites=sites)
        fault = lab.fail(Phase.RCPT, release=release, drop=True)
        short = {"POSTFLEET_SESSION_LEASE_SECONDS": "2"}
        fleet.relay()
        victim = fleet.worker(QUEUES, threads=2, env=short)
        mail(engine, 3)
        assert fault.reached.wait(20)
        victim.kill()
        release.set()
        fleet.worker(QUEUES, threads=2, env=short)
        assert final(fleet) == {"sent": 3}
        assert list(copies(lab).values()) == [1, 1, 1]
