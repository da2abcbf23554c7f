"""The composition root of a process: clients, engines and job types, built once from the settings.

A worker process holds at most four PostgreSQL connections whatever its threads: three for claims, outcomes and what job
types read, one for its lease, which must not queue behind them.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass

import redis
from sqlalchemy import Engine

from postfleet_workers import pipe
from postfleet_workers.actors import Services, registry
from postfleet_workers.jobs import Registry
from postfleet_workers.settings import Settings
from postfleet_workers.store.session import engine_for, require_schema, wait_until_up
from postfleet_workers.throttling.redis import RedisLimiter

WORK_CONNECTIONS = 3


@dataclass(frozen=True, slots=True)
class App:
    """Everything that a command's loops share. `raw_client` gives bytes, as Dramatiq wants them."""

    settings: Settings
    replica: str
    engine: Engine
    lease_engine: Engine
    client: redis.Redis
    raw_client: redis.Redis
    limiter: RedisLimiter
    registry: Registry

    def close(self) -> None:
        """Close every connection."""
        self.registry.close()
        self.engine.dispose()
        self.lease_engine.dispose()
        self.client.close()
        self.raw_client.close()


def build(settings: Settings) -> App:
    """Connect and wait until both servers answer.

    Raises:
        InputError: a URL cannot work.
        StoreUnavailable: PostgreSQL did not answer within `start_wait_seconds`.
        PermanentError: the database was never migrated.
        PipeUnavailable: Redis did not answer within `start_wait_seconds`.
    """
    replica = settings.replica or socket.gethostname()
    engine = engine_for(settings.database_url, connections=WORK_CONNECTIONS, application_name=f"postfleet {replica}")
    lease_engine = engine_for(settings.database_url, connections=1, application_name=f"postfleet-lease {replica}")
    client = pipe.connect(settings.redis_url)
    raw_client = pipe.connect(settings.redis_url, decode=False)
    wait_until_up(engine, settings.start_wait_seconds)
    require_schema(engine)
    pipe.wait_until_up(client, settings.start_wait_seconds)
    limiter = RedisLimiter(client)
    types = registry(Services(settings, engine, client, limiter))
    return App(settings, replica, engine, lease_engine, client, raw_client, limiter, types)
