"""What a run is and came to, and what all contenders need: an environment, logs, a bounded wait."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from speed.servers import Servers

STUCK_SECONDS = 600.0
LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Load:
    """How much is sent, by how many processes and threads."""

    emails: int
    processes: int
    threads: int


@dataclass(slots=True)
class Run:
    """One contender's result. `cpu` is CPU seconds by process, over the whole run; `stages` of Postfleet's workers.

    `per_second` is taken over the middle nine tenths of the mails, so that it holds neither start nor tail.
    """

    name: str
    emails: int
    per_second: float
    seconds: float
    cpu: dict[str, float]
    stages: dict[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def cpu_us(self) -> float:
        """CPU per email, of all processes and servers."""
        return sum(self.cpu.values()) / self.emails * 1e6

    def as_json(self) -> dict[str, Any]:
        """For the results' file."""
        return asdict(self) | {
            "cpu_us_per_email": round(self.cpu_us, 1),
            "cpu_seconds_per_1000": {role: round(s / self.emails * 1000, 4) for role, s in self.cpu.items()},
        }


def row(connection: psycopg.Connection, sql: str, *values: Any) -> tuple[float, float]:
    """The two numbers of a row."""
    found = connection.execute(sql, values).fetchone()
    connection.commit()
    if found is None or found[0] is None:
        raise SystemExit("throughput: nothing was sent")
    return float(found[0]), float(found[1])


def count(connection: psycopg.Connection, sql: str) -> int:
    """The number that a query gives."""
    found = connection.execute(sql).fetchone()
    connection.commit()
    return int(found[0]) if found else 0


def until(done: Callable[[], bool], process: Any, log: Path | None = None) -> None:
    """Wait until it is done; the run is over when the process ends before that, or takes too long."""
    deadline = time.monotonic() + STUCK_SECONDS
    while not done():
        if process.poll() is not None or time.monotonic() > deadline:
            words = log.read_text(errors="replace")[-3000:] if log else ""
            raise SystemExit(f"throughput: {process.args} ended, or moved nothing for long\n{words}")
        time.sleep(LOOK_SECONDS)


def environment(servers: Servers) -> dict[str, str]:
    """What every contender's processes find the servers by."""
    return {
        "PYTHONPATH": os.pathsep.join(filter(None, (str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")))),
        "BENCH_DATABASE_URL": servers.database_url,
        "BENCH_REDIS_URL": servers.valkey.url(5),
        "BENCH_SMTP_PORT": str(servers.sink.port),
        "POSTFLEET_DATABASE_URL": servers.database_url,
        "POSTFLEET_REDIS_URL": servers.valkey.url(0),
        "POSTFLEET_SECRET_KEY": "a key that only this bench has: 32 characters or more",
        "POSTFLEET_LOG_LEVEL": "WARNING",
    }


def difference(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """What was added to each."""
    return {role: after[role] - before[role] for role in before}


@contextmanager
def logs() -> Iterator[Path]:
    """A folder for what processes say."""
    with tempfile.TemporaryDirectory(prefix="postfleet-bench-") as folder:
        yield Path(folder)
