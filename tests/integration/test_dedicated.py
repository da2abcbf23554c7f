"""Dedicated nodes with real processes: their mail leaves from their own workers, whatever happens on the way.

What counts is what the SMTP server accepted, and which worker it came from.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
import redis
from sqlalchemy import Engine

from command import program
from fleet import Fleet, Process
from integration.mail_steps import QUEUES, add_node, copies, final, mail, statuses
from mail_lab import Lab

pytestmark = pytest.mark.faults

BULK = "campaign-standard"
PER_MINUTE = 1200  # 20 a second: there is some left when the test steps in, and no more to do than needed
# A worker keeps what it read of a node for 3 s; what it has fetched goes on for a second or two.
SETTLED_SECONDS = 5


def own_worker(fleet: Fleet, node: str = "own", threads: int = 4) -> Process:
    """As the operator starts one for a Dedicated node."""
    queues = ",".join(f"{queue}.{node}" for queue in QUEUES.split(","))
    return fleet.worker(queues, threads, env={"POSTFLEET_NODE": node, "POSTFLEET_SMTP_SESSIONS_PER_THREAD": "2"})


def place(fleet: Fleet, placement: str, node: str = "own") -> None:
    fleet.execute(
        "UPDATE sending_nodes SET spec = jsonb_set(spec, '{workers,placement}', to_jsonb(CAST(:p AS text)))"
        " WHERE name = :node",
        p=placement,
        node=node,
    )


def senders(fleet: Fleet, node: str) -> set[str]:
    """POSTFLEET_NODE of the workers that a node's mail came from."""
    found = fleet.rows("SELECT DISTINCT w.node FROM email_attempts a JOIN workers w ON w.id = a.worker"
                       " WHERE a.node = :node", node=node)  # fmt: skip
    return {row.node for row in found}


def record(client: redis.Redis, road: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(str(client.get(f"postfleet:relay:{road}") or "{}"))
    return found


def test_each_nodes_mail_leaves_from_its_own_workers(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated")
    add_node(engine, "n1", lab.port)
    fleet.relay()
    fleet.worker(QUEUES)
    own_worker(fleet)
    for node in ("own", "n1"):
        for queue in (BULK, "priority-high"):
            mail(engine, 50, node=node, queue=queue)
    assert final(fleet) == {"sent": 200}
    assert set(copies(lab).values()) == {1}
    assert (senders(fleet, "own"), senders(fleet, "n1")) == ({"own"}, {"shared"})


def test_dedicated_mail_waits_for_its_own_workers_and_keeps_nobody_waiting(
    fleet: Fleet, engine: Engine, lab: Lab, redis_client: redis.Redis
) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated")
    add_node(engine, "n1", lab.port)
    fleet.relay()
    fleet.worker(QUEUES)
    mail(engine, 50, node="own")
    mail(engine, 50, node="n1")
    fleet.until(lambda: statuses(fleet) == {"sent": 50, "queued": 50}, "the shared mail sent")
    fleet.until(lambda: record(redis_client, f"{BULK}.own").get("held") == 42, "eight in the pipe, the rest held")
    fleet.until(lambda: record(redis_client, BULK).get("held") == 0, "nothing else is held")
    own_worker(fleet)
    assert final(fleet) == {"sent": 100}


def test_deferred_mail_comes_back_by_its_own_road(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    fleet.env["POSTFLEET_DEFERRAL_BASE_SECONDS"] = "0.5"
    add_node(engine, "own", lab.port, placement="Dedicated")
    lab.rcpt = {f"acme-{BULK}-0@example.org": "450 4.2.0 greylisted"}
    fleet.relay()
    fleet.worker(QUEUES)
    own_worker(fleet)
    mail(engine, 1, node="own")
    fleet.until(lambda: "deferred" in statuses(fleet), "deferred")
    lab.rcpt.clear()
    assert final(fleet) == {"sent": 1}
    assert fleet.rows("SELECT queue FROM jobs")[0].queue == "retry"
    assert senders(fleet, "own") == {"own"}


def test_a_node_that_changes_hands_under_load_loses_and_doubles_nothing(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    add_node(engine, "own", lab.port, perMinute=PER_MINUTE)
    fleet.relay()
    fleet.worker(QUEUES)
    own_worker(fleet)
    mail(engine, 250, node="own")
    moved_at = []
    for goal, placement in ((20, "Dedicated"), (180, "Shared")):
        fleet.until(lambda goal=goal: len(lab.accepted) > goal, f"{goal} delivered")
        place(fleet, placement)
        moved_at.append(fleet.rows("SELECT postfleet_now() AS now")[0].now)
    assert final(fleet) == {"sent": 250}
    assert len(lab.accepted) == 250
    assert set(copies(lab).values()) == {1}
    assert fleet.rows("SELECT max(attempt) AS most FROM jobs")[0].most == 1
    late = fleet.rows(
        "SELECT DISTINCT w.node FROM email_attempts a JOIN workers w ON w.id = a.worker"
        " WHERE a.started_at BETWEEN CAST(:since AS timestamptz) + make_interval(secs => :s) AND :until",
        since=moved_at[0], s=SETTLED_SECONDS, until=moved_at[1],
    )  # fmt: skip
    assert {row.node for row in late} == {"own"}


@pytest.mark.parametrize("placement", ["Shared", "Dedicated"])
def test_the_mail_of_a_node_deleted_under_load_waits_and_goes_by_another(
    fleet: Fleet, engine: Engine, lab: Lab, redis_client: redis.Redis, placement: str
) -> None:
    add_node(engine, "own", lab.port, placement=placement, perMinute=PER_MINUTE)
    add_node(engine, "n1", lab.port)
    fleet.relay()
    fleet.worker(QUEUES)
    own_worker(fleet)
    mail(engine, 250, node="own")
    fleet.until(lambda: len(lab.accepted) > 20, "20 delivered")
    fleet.execute("DELETE FROM sending_nodes WHERE name = 'own'")
    reason = "node own unknown"
    left = fleet.until(
        lambda: (
            set(fleet.states()) == {"completed", "available"}
            and record(redis_client, BULK)["throttled_by"].get(reason) == fleet.states()["available"]
            and fleet.states()["available"]
        ),
        "all that is left is said to wait",
    )
    assert redis_client.hlen(f"dramatiq:{BULK}.own.msgs") == 0
    assert fleet.rows("SELECT max(attempt) AS most FROM jobs WHERE state = 'available'")[0].most == 0
    answer = program("nodes", "reroute", "own", "n1", "--output", "json", env=fleet.env)
    assert answer.json["moved"] == left
    assert final(fleet) == {"sent": 250}
    assert len(lab.accepted) == 250
    assert set(copies(lab).values()) == {1}


def test_a_node_that_comes_back_sends_what_waited_for_it(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated", perMinute=PER_MINUTE)
    fleet.relay()
    own_worker(fleet)
    mail(engine, 200, node="own")
    fleet.until(lambda: len(lab.accepted) > 20, "20 delivered")
    fleet.execute("DELETE FROM sending_nodes")
    fleet.until(lambda: set(fleet.states()) == {"completed", "available"}, "the rest waits")
    add_node(engine, "own", lab.port, placement="Dedicated")
    assert final(fleet) == {"sent": 200}
    assert set(copies(lab).values()) == {1}


def test_a_flush_costs_the_mail_of_dedicated_nodes_seconds_and_no_more(
    fleet: Fleet, engine: Engine, lab: Lab, redis_client: redis.Redis
) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated")
    add_node(engine, "n1", lab.port)
    fleet.relay()
    fleet.worker(QUEUES)
    own_worker(fleet)
    mail(engine, 200, node="own")
    mail(engine, 100, node="n1")
    for goal in (50, 150):
        fleet.until(lambda goal=goal: len(lab.accepted) > goal, f"{goal} delivered")
        redis_client.flushall()
    assert final(fleet) == {"sent": 300}
    assert len(lab.accepted) == 300
    assert set(copies(lab).values()) == {1}
    assert senders(fleet, "own") == {"own"}


def test_a_killed_dedicated_worker_loses_and_doubles_nothing(fleet: Fleet, engine: Engine, lab: Lab) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated")
    fleet.relay()
    victim = own_worker(fleet)
    mail(engine, 200, node="own")
    fleet.until(lambda: len(lab.accepted) > 50, "50 delivered")
    victim.kill()
    own_worker(fleet)
    ended = final(fleet)
    unknown = ended.get("unknown", 0)
    assert ended.get("sent", 0) + unknown == 200
    assert unknown <= 4 * 2, "at most one unknown per session"
    assert set(copies(lab).values()) == {1}


def test_a_worker_that_was_told_the_wrong_node_does_not_run_in_circles_with_the_relay(
    fleet: Fleet, engine: Engine, lab: Lab
) -> None:
    add_node(engine, "own", lab.port, placement="Dedicated")
    fleet.relay()
    wrong = fleet.worker(f"{BULK}.own")  # POSTFLEET_NODE is missing
    mail(engine, 5, node="own")
    reason = "node own is not served by shared workers"
    fleet.until(lambda: fleet.rows("SELECT 1 FROM jobs WHERE last_error = :e AND snoozes >= 3", e=reason), "put back")
    (row,) = fleet.rows("SELECT max(publication) AS offers, max(attempt) AS attempts,"
                        " extract(epoch FROM now() - min(created_at)) AS age FROM jobs")  # fmt: skip
    assert row.offers <= row.age + 1, "once a second, no more"
    assert row.attempts <= 1
    wrong.stop()
    own_worker(fleet)
    assert final(fleet) == {"sent": 5}
    assert fleet.rows("SELECT max(attempt) AS most FROM jobs")[0].most == 1
