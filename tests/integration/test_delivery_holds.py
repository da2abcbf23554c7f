"""`email.send` where mail may not go out now: pauses, limits, sessions, nodes that are not these workers'."""

from __future__ import annotations

import threading
from contextlib import closing
from typing import Any

import pytest
import redis
from sqlalchemy import Engine, text

from mail_bench import NODE, TENANT, Bench
from mail_lab import Lab
from postfleet_workers.jobs import Done, HandBack, Snooze


def test_mail_of_a_node_that_goes_on_after_a_pause_is_not_handed_back_by_what_was_known_before(
    bench: Bench, lab: Lab
) -> None:
    bench.node(lab.port, paused=True)
    bench.enqueue("a@b.example")
    assert bench.run() == [HandBack(f"node {NODE} is paused")]
    with bench.engine.begin() as connection:
        connection.execute(text("UPDATE sending_nodes SET paused = false, spec = spec || '{\"paused\": false}'"))
    assert [type(outcome) for outcome in bench.run()] == [Done]


def test_a_spent_limit_hands_back_the_rest_and_names_itself(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, perHour=100)  # so slow that no permit comes due while the test runs
    bench.enqueue(*(f"u{i}@b.example" for i in range(10)))
    found = bench.run()
    sent = len(lab.accepted)
    assert sent == 1  # a fresh bucket has no burst
    assert [type(o) for o in found] == [Done] * sent + [HandBack] * (10 - sent)
    assert {o.reason for o in found if isinstance(o, HandBack)} == {f"held by node {NODE} per_hour"}
    assert bench.statuses() == ["sent"] * sent + ["queued"] * (10 - sent)
    assert {(job["state"], job["attempt"]) for job in bench.jobs()[sent:]} == {("available", 0)}


def test_a_tenants_limit_holds_as_well(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    with engine.begin() as connection:
        connection.execute(text("UPDATE tenants SET per_day = 5 WHERE name = :t"), {"t": TENANT})
    bench.enqueue("a@b.example", "c@b.example")
    found = bench.run()
    assert [type(o) for o in found] == [Done, HandBack]


def test_when_every_session_of_the_node_is_taken_the_bundle_goes_back(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, maxConnections=1)
    assert bench.leases.acquire([(NODE, 1)], "another worker's")
    bench.enqueue("a@b.example", "c@b.example")
    found = bench.run()
    assert [type(o) for o in found] == [HandBack, HandBack]
    assert lab.connections == 0
    bench.leases.release([NODE], "another worker's")
    bench.run()
    assert bench.statuses() == ["sent", "sent"]


def test_a_session_is_replaced_after_its_share_of_mails(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, messagesPerConnection=3)
    bench.enqueue(*(f"u{i}@b.example" for i in range(7)))
    bench.run()
    assert (len(lab.accepted), lab.connections, lab.most_open) == (7, 3, 1)


def test_threads_share_the_sessions_of_their_process(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port, maxConnections=2)
    bench.enqueue(*(f"u{i}@b.example" for i in range(40)))
    jobs, run = bench.claim()
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda part=part: found.extend(bench.perform(part, run)))
        for part in (jobs[i::4] for i in range(4))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert lab.most_open <= 2
    assert len(lab.accepted) == sum(type(o) is Done for o in found)
    assert all(isinstance(o, Done | HandBack) for o in found)


def test_a_paused_node_hands_back(bench: Bench, lab: Lab) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    bench.node(lab.port, paused=True)
    assert [type(o) for o in bench.run()] == [HandBack]


def test_the_mail_of_a_node_that_is_gone_goes_back_and_uses_no_attempt(bench: Bench, lab: Lab, engine: Engine) -> None:
    bench.node(lab.port)
    bench.enqueue("a@b.example")
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM sending_nodes"))
    (outcome,) = bench.run()
    assert outcome == Snooze(1.0, f"sending node {NODE} does not exist", kind="node_unknown")
    assert [(job["state"], job["attempt"]) for job in bench.jobs()] == [("scheduled", 0)]
    assert bench.statuses() == ["queued"]


@pytest.mark.parametrize(
    ("placement", "place", "served"),
    [
        pytest.param("Shared", "shared", True, id="shared mail, shared workers"),
        pytest.param("Dedicated", NODE, True, id="its own workers"),
        pytest.param("Dedicated", "shared", False, id="dedicated mail, shared workers"),
        pytest.param("Shared", NODE, False, id="shared mail, once its own workers"),
        pytest.param("Dedicated", "other-1", False, id="workers of another node"),
    ],
)
def test_a_worker_puts_back_what_is_not_its_own(
    engine: Engine, redis_client: redis.Redis, lab: Lab, placement: str, place: str, served: bool
) -> None:
    with closing(Bench(engine, redis_client, place=place)) as bench:
        bench.node(lab.port, placement=placement)
        bench.enqueue("a@b.example", "c@b.example")
        found = bench.run()
        if served:
            assert ([type(o) for o in found], len(lab.accepted)) == ([Done] * 2, 2)
            return
        reason = f"node {NODE} is not served by {place} workers"
        assert found == [Snooze(1.0, reason, kind="misplaced")] * 2
        assert [(j["state"], j["attempt"], j["last_error"]) for j in bench.jobs()] == [("scheduled", 0, reason)] * 2
        assert (bench.statuses(), lab.accepted) == (["queued"] * 2, [])


def test_a_node_that_was_given_to_these_workers_a_moment_ago_is_theirs(
    engine: Engine, redis_client: redis.Redis, lab: Lab
) -> None:
    with closing(Bench(engine, redis_client, place=NODE)) as bench:
        bench.node(lab.port)
        bench.enqueue("a@b.example")
        assert [type(o) for o in bench.run()] == [Snooze]
        with engine.begin() as connection:  # behind the directory's back
            connection.execute(
                text("UPDATE sending_nodes SET spec = jsonb_set(spec, '{workers,placement}', '\"Dedicated\"')")
            )
        assert [type(o) for o in bench.run_again()] == [Done]


def test_a_node_that_was_taken_from_these_workers_and_deleted_is_gone(
    engine: Engine, redis_client: redis.Redis, lab: Lab
) -> None:
    with closing(Bench(engine, redis_client, place="other-1")) as bench:
        bench.node(lab.port)
        bench.enqueue("a@b.example")
        bench.run()
        with engine.begin() as connection:
            connection.execute(text("DELETE FROM sending_nodes"))
        assert [o.kind for o in bench.run_again() if isinstance(o, Snooze)] == ["node_unknown"]
