"""Workers' leases on the database's clock, which the tests set ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from integration.ledger_steps import QUEUE, add, ask, change, claim, move_clock, offer, start_worker
from postfleet_workers import leases

WHO = leases.Identity("w-1", "w", "email", "shared", ("priority-high", QUEUE), 8)


def live(engine: Engine) -> list[str]:
    with engine.connect() as connection:
        return sorted(worker.id for worker in leases.live(connection))


def renew(engine: Engine, worker: str, seconds: float = 60.0, load: leases.Load | None = None) -> datetime | None:
    with engine.begin() as connection:
        return leases.renew(connection, worker, seconds, load or leases.Load())


def test_a_worker_lives_from_its_first_heartbeat(engine: Engine) -> None:
    assert live(engine) == []
    with engine.begin() as connection:
        now = leases.register(connection, WHO, 60.0)
    with engine.connect() as connection:
        assert leases.live(connection) == [leases.LiveWorker("w-1", ("priority-high", QUEUE), 8)]
    (row,) = ask(engine, "SELECT replica, pool, node, lease_until, stopped_at FROM workers")
    assert tuple(row) == ("w", "email", "shared", now + timedelta(seconds=60), None)


@pytest.mark.parametrize(
    ("ahead", "alive"),
    [pytest.param("59 seconds", ["w"], id="within"), pytest.param("61 seconds", [], id="after")],
)
def test_a_lease_lapses_by_the_databases_clock(engine: Engine, ahead: str, alive: list[str]) -> None:
    start_worker(engine, seconds=60.0)
    move_clock(engine, ahead)
    assert live(engine) == alive


def test_the_clock_that_a_worker_is_told_is_the_databases(engine: Engine) -> None:
    move_clock(engine, "2 hours")
    with engine.begin() as connection:
        now = leases.register(connection, WHO, 60.0)
    assert now - datetime.now(UTC) > timedelta(hours=1, minutes=59)
    renewed = renew(engine, "w-1")
    assert renewed is not None
    assert renewed >= now


def test_a_renewal_carries_the_lease_on_and_reports_the_load(engine: Engine) -> None:
    start_worker(engine, seconds=60.0)
    move_clock(engine, "50 seconds")
    renew(engine, "w", 60.0, leases.Load(3, 1200, 45.5))
    move_clock(engine, "100 seconds")
    assert live(engine) == ["w"]
    (row,) = ask(engine, "SELECT busy, completed, busy_seconds FROM workers")
    assert tuple(row) == (3, 1200, 45.5)


def test_a_lapsed_lease_may_be_renewed(engine: Engine) -> None:
    start_worker(engine, seconds=60.0)
    move_clock(engine, "5 minutes")
    assert renew(engine, "w") is not None
    assert live(engine) == ["w"]


def test_a_worker_whose_row_is_gone_is_told_so(engine: Engine) -> None:
    assert renew(engine, "nobody") is None


def test_a_goodbye_ends_a_life_at_once(engine: Engine) -> None:
    start_worker(engine, "one")
    start_worker(engine, "two")
    renew(engine, "one", load=leases.Load(busy=4))
    with engine.begin() as connection:
        leases.stop(connection, "one")
    assert live(engine) == ["two"]
    assert ask(engine, "SELECT busy FROM workers WHERE id = 'one'")[0].busy == 0


def test_a_stopped_worker_claims_nothing(engine: Engine) -> None:
    add(engine)
    start_worker(engine)
    items = offer(engine)
    with engine.begin() as connection:
        leases.stop(connection, "w")
    assert claim(engine, items) == []


def test_a_lapsed_worker_claims_nothing_until_it_renews(engine: Engine) -> None:
    add(engine)
    start_worker(engine, seconds=60.0)
    items = offer(engine)
    move_clock(engine, "2 minutes")
    assert claim(engine, items) == []
    renew(engine, "w")
    assert len(claim(engine, items)) == 1


def test_the_dead_are_forgotten_after_a_day_but_not_while_a_job_names_them(engine: Engine) -> None:
    for name in ("stopped", "lapsed", "owner", "fresh"):
        start_worker(engine, name)
    add(engine)
    claim(engine, offer(engine), "owner")
    with engine.begin() as connection:
        leases.stop(connection, "stopped")
    move_clock(engine, "25 hours")
    renew(engine, "fresh")
    with engine.begin() as connection:
        leases.forget(connection)
    assert {row.id for row in ask(engine, "SELECT id FROM workers")} == {"owner", "fresh"}
    change(engine, "UPDATE jobs SET state = 'available', claimed_by = NULL")
    with engine.begin() as connection:
        leases.forget(connection)
    assert {row.id for row in ask(engine, "SELECT id FROM workers")} == {"fresh"}


def test_a_worker_that_stopped_an_hour_ago_is_still_on_record(engine: Engine) -> None:
    start_worker(engine)
    with engine.begin() as connection:
        leases.stop(connection, "w")
    move_clock(engine, "1 hour")
    with engine.begin() as connection:
        leases.forget(connection)
    assert len(ask(engine, "SELECT FROM workers")) == 1
