"""A worker killed at every phase of an SMTP dialogue, and what became of its mail: lost, sent twice or unknown."""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass

import pytest
from sqlalchemy import Engine

from fleet import Fleet
from integration.mail_steps import QUEUES, add_node, copies, final
from postfleet_workers.mail.outbox import NewEmail, send_email
from smtp_lab import FaultyLab, Phase

pytestmark = pytest.mark.faults

# More than usually fits on the way: a worker is still writing it when the server stops reading.
LARGE = "Arbeit und kein Vergnügen, süß ißt es öde.\n" * 11_000
UNKNOWN_AT = {Phase.DOT}
# Either is right. A kernel with much room takes the whole body, and the dot went out after it. And after its 250 a
# server does not know whether the worker noted that before it died.
EITHER_AT = {Phase.BODY, Phase.REPLIED}


@dataclass(frozen=True)
class Fate:
    """What became of the one mail of a phase."""

    status: str
    accepted: int

    @property
    def lost(self) -> bool:
        return self.accepted == 0 and self.status != "unknown"

    @property
    def duplicated(self) -> bool:
        return self.accepted > 1


def test_a_worker_killed_at_any_phase_loses_and_doubles_nothing(fleet: Fleet, engine: Engine) -> None:
    phases = [phase for phase in Phase if phase is not Phase.QUIT]
    labs = {phase: FaultyLab() for phase in phases}
    fates: dict[Phase, Fate] = {}
    for phase in phases:
        add_node(engine, phase.value, labs[phase].port)
    fleet.relay()
    victim = fleet.worker(QUEUES, threads=2)
    for phase in phases:
        release = threading.Event()
        fault = labs[phase].fail(phase, release=release, drop=phase not in {Phase.DOT, Phase.REPLIED})
        text = LARGE if phase is Phase.BODY else "Hello there"
        html = f"<pre>{LARGE}</pre>" if phase is Phase.BODY else None
        with engine.begin() as connection:
            send_email(connection, NewEmail("acme", f"{phase}@example.org", phase.value, "Hello", text, html))
        assert fault.reached.wait(30), f"no worker got to {phase}"
        victim.kill()
        release.set()
        victim = fleet.worker(QUEUES, threads=2)
        final(fleet)
        ((status,),) = fleet.rows("SELECT status FROM emails WHERE node = :node", node=phase.value)
        fates[phase] = Fate(status, sum(copies(labs[phase]).values()))
    for lab in labs.values():
        lab.stop()

    for phase, fate in fates.items():
        print(f"{phase:8} {fate.status:8} accepted {fate.accepted}")  # noqa: T201 - the table that people ask for
    counts = Counter(lost=sum(f.lost for f in fates.values()), duplicated=sum(f.duplicated for f in fates.values()))
    print(f"lost {counts['lost']}, duplicated {counts['duplicated']}, of {len(fates)}")  # noqa: T201
    assert counts == Counter(lost=0, duplicated=0)
    unknown = {phase for phase, fate in fates.items() if fate.status == "unknown"}
    assert unknown - EITHER_AT == UNKNOWN_AT
    assert {fate.status for fate in fates.values()} <= {"sent", "unknown"}
