"""The relay's questions to a real PostgreSQL: what is due, by group; what it offers; who is past helping."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Connection, Engine, text

from integration.ledger_steps import (
    GROUP,
    PUBLICATION_SECONDS,
    QUEUE,
    add,
    change,
    claim,
    job_row,
    move_clock,
    offer,
    settle,
    start_worker,
    states,
)
from postfleet_workers.jobs import HandBack, NewJob
from postfleet_workers.relay import census, rows
from postfleet_workers.relay.allocate import Key

MANY = 1000


def now() -> datetime:
    return datetime.now(UTC)


def groups(engine: Engine, budget: int = MANY, queue: str = QUEUE) -> dict[Key, census.Group]:
    with engine.connect() as connection:
        pipe = census.pipefuls(connection).get(queue, {})
        found = census.count(connection, queue, census.keys(connection, [queue])[queue], budget, pipe)
        return {group.key: group for group in found}


def counts(engine: Engine, queue: str = QUEUE) -> dict[Key, tuple[int, int]]:
    return {key: (group.due, group.published) for key, group in groups(engine, queue=queue).items()}


def job(n: int = 0, *, tenant: str = "default", batch: str = "", route: str = "", minutes: int = 0) -> NewJob:
    return NewJob("probe", QUEUE, {}, tenant, batch, route, n, run_at=now() - timedelta(minutes=minutes))


def test_every_group_of_the_queue_is_found_and_no_other(engine: Engine) -> None:
    keys = [
        (tenant, batch, route)
        for tenant in (f"tenant-{n}" for n in range(30))
        for batch in ("", "campaign:1", "campaign:10", "campaign:2")
        for route in ("", "n1")
    ]
    add(engine, *[job(tenant=t, batch=b, route=r) for t, b, r in keys for _ in range(3)])
    add(engine, NewJob("probe", "other", tenant="elsewhere"), NewJob("probe", QUEUE, run_at=now() + timedelta(hours=1)))
    assert counts(engine) == dict.fromkeys(keys, (3, 0))
    assert counts(engine, queue="nobody's") == {}


def test_a_group_says_what_is_due_what_is_on_offer_and_how_long_the_oldest_waits(engine: Engine) -> None:
    add(engine, *[job(minutes=n) for n in range(1, 6)])
    offer(engine, most=2)
    (group,) = groups(engine).values()
    assert (group.due, group.published, group.type) == (3, 2, "probe")
    assert group.oldest_seconds == pytest.approx(300, abs=30)


def test_groups_share_the_budget_of_their_queue(engine: Engine) -> None:
    add(engine, *[job(tenant=tenant) for tenant in "ab" for _ in range(20)])
    found = groups(engine, budget=10)
    assert [(group.due, group.more) for group in found.values()] == [(5, True), (5, True)]


def test_what_small_groups_leave_of_the_budget_goes_to_the_large_one(engine: Engine) -> None:
    add(engine, *[job(tenant=f"small-{n}") for n in range(9)], *[job(tenant="large") for _ in range(200)])
    found = groups(engine, budget=100)
    assert (found["large", "", ""].due, found["large", "", ""].more) == (91, True)
    assert {(found[f"small-{n}", "", ""].due, found[f"small-{n}", "", ""].more) for n in range(9)} == {(1, False)}


def test_rows_on_offer_use_up_no_budget(engine: Engine) -> None:
    add(engine, *[job(minutes=n) for n in range(40)])
    offer(engine, most=30)
    (group,) = groups(engine, budget=10).values()
    assert (group.due, group.published) == (10, 30)


@pytest.mark.parametrize(
    ("change_", "due"),
    [
        pytest.param("SET strikes = 1", 1, id="one strike"),
        pytest.param("SET strikes = 2", 0, id="a suspect, offered apart"),
        pytest.param("SET expires_at = now() - interval '1 second'", 0, id="expired"),
        pytest.param("SET expires_at = now() + interval '1 hour'", 1, id="expires later"),
        pytest.param("SET run_at = now() + interval '1 hour'", 0, id="not due yet"),
        pytest.param("SET published_until = now() + interval '1 hour'", 0, id="on offer"),
        pytest.param("SET published_until = now() - interval '1 second'", 1, id="its offer lapsed"),
    ],
)
def test_what_is_counted_as_due_is_what_can_be_offered(engine: Engine, change_: str, due: int) -> None:
    add(engine)
    change(engine, f"UPDATE jobs {change_}")
    assert groups(engine)[GROUP].due == due
    assert len(offer(engine)) == due


def test_rows_are_offered_by_priority_then_due_time_then_age(engine: Engine) -> None:
    urgent_later, bulk, urgent_first, bulk_twin = add(
        engine, job(0, minutes=1), job(5, minutes=9), job(0, minutes=2), job(5, minutes=9)
    )
    offered = [offer(engine, most=1)[0][0] for _ in range(4)]
    assert offered == [urgent_first, urgent_later, bulk, bulk_twin]


def test_one_offer_lists_its_rows_in_that_order_too(engine: Engine) -> None:
    last, first, middle = add(engine, job(2), job(0), job(1))
    assert [job_id for job_id, _ in offer(engine)] == [first, middle, last]


def test_an_offer_is_for_one_group_alone(engine: Engine) -> None:
    add(engine, job(tenant="a"), job(tenant="b"), job(tenant="a", batch="campaign:1"), job(tenant="a", route="n1"))
    assert len(offer(engine, ("a", "", ""))) == 1
    assert counts(engine)["a", "", "n1"] == (1, 0)


def test_an_offer_lapses_and_the_next_one_has_a_higher_number(engine: Engine) -> None:
    add(engine)
    first = offer(engine)
    assert offer(engine) == []
    move_clock(engine, f"{PUBLICATION_SECONDS + 1} seconds")
    second = offer(engine)
    assert (second[0][0], second[0][1]) == (first[0][0], first[0][1] + 1)


def test_what_has_expired_is_not_offered(engine: Engine) -> None:
    add(engine, NewJob("probe", QUEUE, expires_at=now() - timedelta(seconds=1)))
    assert offer(engine) == []


def test_an_offer_can_be_kept_up_by_its_own_publication_only(engine: Engine) -> None:
    (job_id,) = add(engine)
    ((_, publication),) = offer(engine)
    with engine.begin() as connection:
        rows.extend(connection, [(job_id, publication - 1)], 900.0)
    assert job_row(engine, job_id).published_until - datetime.now(UTC) < timedelta(seconds=60)
    with engine.begin() as connection:
        rows.extend(connection, [(job_id, publication)], 900.0)
    assert job_row(engine, job_id).published_until - datetime.now(UTC) > timedelta(seconds=600)


def test_an_offer_ended_by_hand_is_open_to_the_next_at_once(engine: Engine) -> None:
    add(engine)
    items = offer(engine)
    with engine.begin() as connection:
        rows.extend(connection, items, 0.0)
    assert len(offer(engine)) == 1


def test_a_forgetful_redis_ends_every_offer_of_the_queues_served(engine: Engine) -> None:
    add(engine, NewJob("probe", QUEUE), NewJob("probe", "other"))
    offer(engine)
    offer(engine, queue="other")
    with engine.begin() as connection:
        rows.lapse(connection, [QUEUE])
    assert counts(engine) == {GROUP: (1, 0)}
    assert counts(engine, queue="other") == {GROUP: (0, 1)}


def test_which_messages_still_mean_something(engine: Engine) -> None:
    offered, executing, back, cancelled, never = add(engine, *[NewJob("probe", QUEUE)] * 5)
    start_worker(engine)
    items = dict(offer(engine, most=4))
    claim(engine, [(executing, items[executing])])
    settle(engine, claim(engine, [(back, items[back])]), HandBack("stop"))
    change(engine, "UPDATE jobs SET state = 'cancelled' WHERE id = :id", id=cancelled)
    asked = [*items.items(), (never, 0), (offered, items[offered] - 1), (10**9, 1)]
    with engine.connect() as connection:
        meant = rows.offered(connection, asked)
    assert meant == {
        (offered, items[offered]): rows.Offer(QUEUE, "", executing=False),
        (executing, items[executing]): rows.Offer(QUEUE, "", executing=True),
    }


SUSPECTS = "UPDATE jobs SET strikes = 2 WHERE id = ANY(:ids)"


def publish_suspect(engine: Engine) -> rows.Published | None:
    with engine.begin() as connection:
        return rows.publish_suspect(connection, QUEUE, [("other", "", ""), GROUP], PUBLICATION_SECONDS)


def test_a_suspect_is_never_in_a_bundle(engine: Engine) -> None:
    suspect, other = add(engine, *[NewJob("probe", QUEUE)] * 2)
    change(engine, SUSPECTS, ids=[suspect])
    assert [job_id for job_id, _ in offer(engine)] == [other]


def test_at_most_one_suspect_of_a_queue_is_on_its_way(engine: Engine) -> None:
    first, second = add(engine, *[NewJob("probe", QUEUE)] * 2)
    change(engine, SUSPECTS, ids=[first, second])
    start_worker(engine)
    offered = publish_suspect(engine)
    assert offered is not None
    assert offered.id == first
    assert publish_suspect(engine) is None, "one is on offer"
    jobs = claim(engine, [(offered.id, offered.publication)])
    assert publish_suspect(engine) is None, "one is executing"
    change(engine, "UPDATE jobs SET state = 'completed' WHERE id = :id", id=jobs[0].id)
    following = publish_suspect(engine)
    assert following is not None
    assert following.id == second


def test_a_suspect_of_another_group_is_not_offered(engine: Engine) -> None:
    (closed, _) = add(engine, job(tenant="closed", minutes=9), job(minutes=1))
    change(engine, "UPDATE jobs SET strikes = 2")
    offered = publish_suspect(engine)
    assert offered is not None
    assert offered.id != closed


def test_a_suspect_whose_offer_lapsed_is_offered_again(engine: Engine) -> None:
    change(engine, SUSPECTS, ids=add(engine))
    assert publish_suspect(engine) is not None
    move_clock(engine, f"{PUBLICATION_SECONDS + 1} seconds")
    assert publish_suspect(engine) is not None


def test_two_strikes_elsewhere_keep_nobody_waiting(engine: Engine) -> None:
    (mine,) = add(engine)
    (other,) = add(engine, NewJob("probe", "other"))
    change(engine, SUSPECTS, ids=[mine, other])
    change(engine, "UPDATE jobs SET state = 'executing' WHERE id = :id", id=other)
    assert publish_suspect(engine) is not None


def test_due_rows_become_available_and_no_others(engine: Engine) -> None:
    soon, later, retried, elsewhere = add(
        engine,
        NewJob("probe", QUEUE, run_at=now() + timedelta(minutes=1)),
        NewJob("probe", QUEUE, run_at=now() + timedelta(hours=1)),
        NewJob("probe", QUEUE),
        NewJob("probe", "other", run_at=now() + timedelta(minutes=1)),
    )
    change(engine, "UPDATE jobs SET state = 'retryable' WHERE id = :id", id=retried)
    move_clock(engine, "2 minutes")
    with engine.begin() as connection:
        assert rows.promote(connection, [QUEUE], MANY) == {QUEUE: 2}
    assert states(engine) == {
        soon: "available", later: "scheduled", retried: "available", elsewhere: "scheduled"
    }  # fmt: skip


def test_promotion_is_bounded_and_takes_the_longest_due_first(engine: Engine) -> None:
    late, early = add(engine, *[NewJob("probe", QUEUE, run_at=now() + timedelta(minutes=m)) for m in (9, 5)])
    move_clock(engine, "10 minutes")
    with engine.begin() as connection:
        assert rows.promote(connection, [QUEUE], most=1) == {QUEUE: 1}
    assert states(engine) == {late: "scheduled", early: "available"}


def test_what_waits_is_counted_with_the_time_of_the_next(engine: Engine) -> None:
    with engine.connect() as connection:
        assert rows.waiting(connection, QUEUE, MANY) == {}
    times = [now() + timedelta(minutes=m) for m in (9, 5, 30)]
    add(engine, *[NewJob("probe", QUEUE, run_at=when) for when in times])
    add(engine, NewJob("probe", QUEUE, run_at=times[2], route="n1"))
    with engine.connect() as connection:
        found = rows.waiting(connection, QUEUE, MANY)
        assert rows.waiting(connection, QUEUE, 2)[""][0] == 2
    assert {route: count for route, (count, _) in found.items()} == {"": 3, "n1": 1}
    assert (found[""][1], found["n1"][1]) == pytest.approx((times[1].timestamp(), times[2].timestamp()))


def test_every_queue_with_unfinished_jobs_is_known(engine: Engine) -> None:
    add(
        engine, *[NewJob("probe", queue) for queue in ("done", "available", "executing", "retryable") for _ in range(2)]
    )
    add(engine, NewJob("probe", "scheduled", run_at=now() + timedelta(hours=1)))
    change(engine, "UPDATE jobs SET state = queue WHERE queue IN ('executing', 'retryable')")
    change(engine, "UPDATE jobs SET state = 'completed' WHERE queue = 'done'")
    with engine.connect() as connection:
        assert rows.queues(connection) == {"available", "executing", "retryable", "scheduled"}


def test_what_is_past_the_relay_is_counted_by_queue_and_group(engine: Engine) -> None:
    add(engine, *[job(tenant=tenant) for tenant in "aab"], NewJob("probe", "other"))
    start_worker(engine)
    claim(engine, offer(engine, ("a", "", ""), most=1))
    offer(engine, ("a", "", ""))
    offer(engine, queue="other")
    change(engine, "UPDATE jobs SET claimed_at = claimed_at - interval '1 minute'")
    claim(engine, offer(engine, ("b", "", "")))
    with engine.connect() as connection:
        found = census.pipefuls(connection)
    assert {
        (queue, key[0]): (pipeful.offered, pipeful.running, pipeful.fresh)
        for queue, pipe in found.items()
        for key, pipeful in pipe.items()
    } == {(QUEUE, "a"): (1, 1, 0), (QUEUE, "b"): (0, 1, 1), ("other", "default"): (1, 0, 0)}


def as_extend(connection: Connection, items: list[tuple[int, int]]) -> object:
    return rows.extend(connection, items, 900.0)


def as_lapse(connection: Connection, _: list[tuple[int, int]]) -> object:
    return rows.lapse(connection, [QUEUE])


def as_promote(connection: Connection, _: list[tuple[int, int]]) -> object:
    return rows.promote(connection, [QUEUE], MANY)


def as_expire(connection: Connection, _: list[tuple[int, int]]) -> object:
    return rows.expire(connection, [QUEUE], MANY)


@pytest.mark.parametrize(
    ("ready", "act"),
    [
        pytest.param("published_until = now() + interval '1 minute'", as_extend, id="extend"),
        pytest.param("published_until = now() + interval '1 minute'", as_lapse, id="lapse"),
        pytest.param("state = 'scheduled'", as_promote, id="promote"),
        pytest.param("expires_at = now() - interval '1 minute'", as_expire, id="expire"),
    ],
)
def test_what_a_worker_holds_is_passed_over_and_never_waited_for(
    engine: Engine, ready: str, act: Callable[[Connection, list[tuple[int, int]]], object]
) -> None:
    locked, free = add(engine, *[NewJob("probe", QUEUE)] * 2)
    change(engine, f"UPDATE jobs SET {ready}")
    before = {job_id: job_row(engine, job_id) for job_id in (locked, free)}
    with engine.begin() as worker, engine.begin() as relay:
        worker.execute(text("SELECT FROM jobs WHERE id = :id FOR UPDATE"), {"id": locked})
        relay.execute(text("SET LOCAL lock_timeout = '2s'"))
        act(relay, [(locked, 0), (free, 0)])
    for job_id, changed in ((locked, False), (free, True)):
        row = job_row(engine, job_id)
        same = (row.state, row.published_until) == (before[job_id].state, before[job_id].published_until)
        assert same is not changed
