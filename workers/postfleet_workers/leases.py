"""Workers' leases: rows of `workers` on the database's clock. A worker whose lease has lapsed is dead to the relay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, text

from postfleet_workers.placement import SHARED, logical

REGISTER = text("""
INSERT INTO workers (id, replica, pool, node, queues, threads, lease_until)
VALUES (:id, :replica, :pool, :node, :queues, :threads, postfleet_now() + make_interval(secs => :seconds))
RETURNING postfleet_now()
""")
# A lease that lapsed may be renewed: what was claimed under it is fenced by `claim` if somebody rescued it meanwhile.
RENEW = text("""
UPDATE workers SET lease_until = postfleet_now() + make_interval(secs => :seconds),
    busy = :busy, completed = :completed, busy_seconds = :busy_seconds
WHERE id = :id RETURNING postfleet_now()
""")
STOP = text("UPDATE workers SET stopped_at = postfleet_now(), busy = 0 WHERE id = :id")
LIVE = text("""
SELECT id, queues, threads, node FROM workers WHERE stopped_at IS NULL AND lease_until > postfleet_now()
""")
LATELY = text("SELECT EXISTS (SELECT FROM workers WHERE lease_until > postfleet_now() - interval '1 day')")
FORGET = text("""
DELETE FROM workers w WHERE coalesce(w.stopped_at, w.lease_until) < postfleet_now() - interval '1 day'
  AND NOT EXISTS (SELECT FROM jobs j WHERE j.claimed_by = w.id AND j.state = 'executing')
""")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a worker process is. `id` is also its Dramatiq broker id."""

    id: str
    replica: str
    pool: str
    node: str
    queues: tuple[str, ...]
    threads: int


@dataclass(frozen=True, slots=True)
class Load:
    """What a worker process reports with each renewal: running threads, jobs done, their thread-seconds (`load`)."""

    busy: int = 0
    completed: int = 0
    busy_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class LiveWorker:
    """A worker whose lease holds."""

    id: str
    queues: tuple[str, ...]
    threads: int
    node: str = SHARED

    @property
    def logical_queues(self) -> tuple[str, ...]:
        """The ledger's names of its queues."""
        return tuple(logical(queue, self.node) for queue in self.queues)


def register(connection: Connection, who: Identity, seconds: float) -> datetime:
    """Write the first heartbeat; the database's time."""
    row = {
        "id": who.id, "replica": who.replica, "pool": who.pool, "node": who.node, "queues": list(who.queues),
        "threads": who.threads, "seconds": seconds,
    }  # fmt: skip
    now: datetime = connection.execute(REGISTER, row).scalar_one()
    return now


def renew(connection: Connection, worker: str, seconds: float, load: Load) -> datetime | None:
    """Renew the lease; the database's time, or None when the row is gone."""
    row = {
        "id": worker, "seconds": seconds, "busy": load.busy, "completed": load.completed,
        "busy_seconds": load.busy_seconds,
    }  # fmt: skip
    now: datetime | None = connection.execute(RENEW, row).scalar_one_or_none()
    return now


def stop(connection: Connection, worker: str) -> None:
    """Say goodbye: the worker holds nothing any more."""
    connection.execute(STOP, {"id": worker})


def live(connection: Connection) -> Sequence[LiveWorker]:
    """Every worker whose lease holds."""
    return [LiveWorker(row.id, tuple(row.queues), row.threads, row.node) for row in connection.execute(LIVE)]


def lately(connection: Connection) -> bool:
    """Whether any worker lived within the longest window of a limit, a day: what it sent may still count."""
    return bool(connection.execute(LATELY).scalar_one())


def forget(connection: Connection) -> None:
    """Delete the rows of workers gone for a day."""
    connection.execute(FORGET)
