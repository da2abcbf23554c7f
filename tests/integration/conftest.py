"""What the tests of deliveries share: a bench around `email.send`, and the servers that it delivers to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import pytest
import redis
from sqlalchemy import Engine

from mail_bench import Bench
from mail_lab import Lab
from smtp_lab import FaultyLab, running


@pytest.fixture
def bench(engine: Engine, redis_client: redis.Redis) -> Iterator[Bench]:
    with closing(Bench(engine, redis_client)) as bench:
        yield bench


@pytest.fixture
def lab() -> Iterator[Lab]:
    with running(Lab()) as lab:
        yield lab


@pytest.fixture
def faulty() -> Iterator[FaultyLab]:
    with running(FaultyLab(pipelining=True)) as lab:
        yield lab
