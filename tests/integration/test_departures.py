"""A replica that is gone for certain frees its jobs before its lease lapses."""

from __future__ import annotations

import psycopg
from sqlalchemy import Engine

from fleet import Fleet
from postfleet_operator.departures import depart
from postfleet_workers.enqueue import enqueue
from postfleet_workers.jobs import NewJob


def test_the_jobs_of_a_departed_replica_come_back_at_once(fleet: Fleet, engine: Engine, database_url: str) -> None:
    fleet.env["POSTFLEET_LEASE_SECONDS"] = "3600"
    relay = {"POSTFLEET_LEASE_SECONDS": "1"}  # how long the relay itself must have been in contact
    fleet.relay(env=relay)
    victim = fleet.worker("probe", threads=1)
    with engine.begin() as connection:
        enqueue(connection, NewJob("probe", "probe", {"do": "sleep", "seconds": 1}))
    fleet.until(lambda: fleet.states() == {"executing": 1}, "begun")
    victim.kill()
    with psycopg.connect(database_url) as connection:
        assert depart(connection, victim.name, 0.0) == 1
    fleet.worker("probe", threads=1)
    assert fleet.settled() == {"completed": 1}


def test_a_successor_of_the_same_name_stays(database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(
            "INSERT INTO workers (id, replica, queues, threads, started_at, lease_until) VALUES"
            " ('old', 'r1', '{}', 1, postfleet_now() - interval '1 min', postfleet_now() + interval '1 min'),"
            " ('new', 'r1', '{}', 1, postfleet_now() - interval '1 second', postfleet_now() + interval '1 min'),"
            " ('else', 'r2', '{}', 1, postfleet_now() - interval '1 min', postfleet_now() + interval '1 min')"
        )
        assert depart(connection, "r1", seconds_ago=5.0) == 1
        left = connection.execute("SELECT id FROM workers WHERE stopped_at IS NULL ORDER BY id").fetchall()
        assert left == [("else",), ("new",)]
