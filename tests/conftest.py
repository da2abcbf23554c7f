"""Servers for the tests: one embedded PostgreSQL and one Valkey per run, a fresh database per test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from hypothesis import settings
from sqlalchemy import Engine

from command import Command
from fleet import Fleet
from postfleet_local.stack import Postgres, Valkey
from postfleet_workers.store.migrate import upgrade
from postfleet_workers.store.session import engine_for

# How long an example takes is the machine's business: a busy one is no failure.
settings.register_profile("postfleet", deadline=None)
settings.load_profile("postfleet")

TEMPLATE = "postfleet_template"
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 2 << 30
_numbers = itertools.count(1)


def in_memory() -> str | None:
    """Where servers that may forget keep their files: copying a database on a disk takes five times as long."""
    return str(MEMORY) if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > MEMORY_BYTES else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every worker of xdist begin with its share of the tests that start fleets: no long one is left at the end."""
    workers = getattr(config, "workerinput", {}).get("workercount", 1)
    if workers == 1:
        return
    long = [item for item in items if starts_a_fleet(item)]
    short = [item for item in items if not starts_a_fleet(item)]
    bounds = [len(short) * number // workers for number in range(workers + 1)]
    items[:] = [
        item
        for number, (begin, end) in enumerate(itertools.pairwise(bounds))
        for item in (*long[number::workers], *short[begin:end])
    ]


def starts_a_fleet(item: pytest.Item) -> bool:
    """Whether a test takes seconds, as it starts processes of ours."""
    return "fleet" in getattr(item, "fixturenames", ()) or item.path.stem.startswith(("test_local_", "test_kind_"))


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with tempfile.TemporaryDirectory(prefix="postfleet-test-", dir=in_memory()) as folder:
        server = Postgres(Path(folder) / "pg", durable=False)
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="session")
def template_database(postgres: Postgres) -> str:
    """A migrated database that every test's own is copied from."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {TEMPLATE}")  # type: ignore[call-overload]
    engine = engine_for(postgres.url(TEMPLATE))
    upgrade(engine)
    engine.dispose()
    return TEMPLATE


@pytest.fixture
def database_url(postgres: Postgres, template_database: str) -> Iterator[str]:
    name = f"test_{next(_numbers)}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template_database} STRATEGY FILE_COPY")  # type: ignore[call-overload]
    yield postgres.url(name)
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[call-overload]


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    engine = engine_for(database_url, connections=8)
    yield engine
    engine.dispose()


@pytest.fixture
def postfleet(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, on the test's database."""
    return Command(database_url, monkeypatch)


@pytest.fixture(scope="session")
def valkey() -> Iterator[Valkey]:
    with tempfile.TemporaryDirectory(prefix="postfleet-test-", dir=in_memory()) as folder:
        server = Valkey(Path(folder) / "valkey")
        server.start()
        try:
            yield server
        finally:
            server.stop()


@pytest.fixture
def own_postgres(tmp_path: Path) -> Iterator[Postgres]:
    """One that a test may stop or kill."""
    server = Postgres(tmp_path / "own-pg")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def own_valkey(tmp_path: Path) -> Iterator[Valkey]:
    """One that a test may stop or kill."""
    server = Valkey(tmp_path / "own-valkey")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def redis_url(valkey: Valkey) -> str:
    return valkey.url()


@pytest.fixture
def redis_client(redis_url: str) -> Iterator[redis.Redis]:
    client = redis.Redis.from_url(redis_url, decode_responses=True)
    client.flushall()
    yield client
    client.close()


@pytest.fixture
def fleet(
    tmp_path: Path, engine: Engine, database_url: str, redis_url: str, redis_client: redis.Redis
) -> Iterator[Fleet]:
    """Real `postfleet` processes, with short leases."""
    fleet = Fleet(
        tmp_path,
        engine,
        {
            "POSTFLEET_DATABASE_URL": database_url,
            "POSTFLEET_REDIS_URL": redis_url,
            "POSTFLEET_JOB_MODULES": "probe_jobs",
            "PYTHONPATH": str(Path(__file__).parent),
            "POSTFLEET_LEASE_SECONDS": "3",
            "POSTFLEET_PUBLICATION_SECONDS": "6",
            "POSTFLEET_RELAY_POLL_SECONDS": "0.2",
            "POSTFLEET_BACKOFF_BASE_SECONDS": "0.2",
            "POSTFLEET_START_WAIT_SECONDS": "10",
        },
    )
    yield fleet
    fleet.close()
