"""Steps of the ledger's tests: put jobs in, offer them, claim them, settle them, look at them."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from postfleet_workers import leases, ledger, outcomes
from postfleet_workers.enqueue import enqueue_many
from postfleet_workers.jobs import Job, JobType, NewJob, Outcome, Registry, Settled
from postfleet_workers.relay import rows
from postfleet_workers.relay.allocate import Key

QUEUE = "bulk"
GROUP: Key = ("default", "", "")
PUBLICATION_SECONDS = 30.0
TYPE = JobType("probe", QUEUE, lambda jobs, run: iter(()), retry_queue="retry")  # type: ignore[arg-type]
REGISTRY = Registry([TYPE])


def add(engine: Engine, *jobs: NewJob) -> list[int]:
    """Enqueue jobs, by default one of type `probe`."""
    with engine.begin() as connection:
        return [job_id for job_id in enqueue_many(connection, jobs or [NewJob("probe", QUEUE)]) if job_id is not None]


def start_worker(engine: Engine, name: str = "w", seconds: float = 60.0) -> str:
    """Register a worker; its id."""
    who = leases.Identity(name, name, "pool", "shared", (QUEUE,), 4)
    with engine.begin() as connection:
        leases.register(connection, who, seconds)
    return name


def offer(engine: Engine, key: Key = GROUP, most: int = 100, queue: str = QUEUE) -> list[tuple[int, int]]:
    """Publish; the (id, publication) pairs, as a message carries them."""
    with engine.begin() as connection:
        found = rows.publish(connection, queue, key, most, PUBLICATION_SECONDS)
    return [(one.id, one.publication) for one in found]


def claim(engine: Engine, items: Sequence[tuple[int, int]], worker: str = "w") -> list[Job]:
    with engine.begin() as connection:
        return ledger.claim(connection, items, worker=worker, claim=uuid.uuid4().hex, epoch="e")


def settle(
    engine: Engine,
    jobs: Sequence[Job],
    outcome: Outcome | outcomes.Rescued,
    registry: Registry = REGISTRY,
    worker: str = "w",
) -> list[Settled]:
    results = [ledger.Result(j, outcome, outcomes.move(j, registry.find(j.type), outcome, 15.0, 0.0)) for j in jobs]
    with engine.begin() as connection:
        return ledger.settle(connection, results, worker=worker, registry=registry)


def change(engine: Engine, sql: str, **values: Any) -> None:
    with engine.begin() as connection:
        connection.execute(text(sql), values)


def ask(engine: Engine, sql: str, **values: Any) -> Sequence[Row[Any]]:
    with engine.connect() as connection:
        return connection.execute(text(sql), values).all()


def job_row(engine: Engine, job_id: int) -> Row[Any]:
    """The job's row, with how far ahead its `run_at` is in seconds."""
    (row,) = ask(
        engine,
        "SELECT *, extract(epoch FROM run_at - postfleet_now())::float8 AS wait FROM jobs WHERE id = :id",
        id=job_id,
    )
    return row


def states(engine: Engine) -> dict[int, str]:
    return {row.id: row.state for row in ask(engine, "SELECT id, state FROM jobs ORDER BY id")}


def move_clock(engine: Engine, interval: str) -> None:
    """Set the database's clock ahead, for every connection from now on."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET postfleet.clock_offset = '{interval}'"))
    engine.dispose()


def plan(connection: Connection, statement: Any, values: dict[str, Any]) -> str:
    """How PostgreSQL runs a statement, as text."""
    return "\n".join(row[0] for row in connection.execute(text(f"EXPLAIN {statement.text}"), values))
