"""A wall clock that is set back by an hour delays nothing for longer than it would have waited anyway."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest
import redis

from postfleet_operator import ledger, progress, sampling
from postfleet_operator.errors import StoreUnavailable
from postfleet_operator.ledger import Ledger
from postfleet_operator.memory_cluster import MemoryCluster
from postfleet_operator.node_reporting import EVENT_SECONDS, NodeReport, report
from postfleet_operator.node_status import NUMBERS_SECONDS, worth_writing
from postfleet_operator.progress import Progress
from postfleet_operator.reachability import Reach
from postfleet_operator.reasons import Reason
from postfleet_operator.sampling import Sampler
from postfleet_operator.spec import parse_node
from postfleet_operator.unserved import NOTICE_SECONDS, Unserved
from unit.operator.building import node_manifest, workers
from unit.operator.test_node_status import FACTS

NOW, HOUR = 10_000.0, 3600.0


class Away:
    """A database that never answers, and counts who asks."""

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self) -> psycopg.Connection[Any]:
        self.asked += 1
        raise psycopg.OperationalError("connection refused")


Look = Callable[[float], object]


def of_ledger(away: Away) -> Look:
    used = Ledger(away)

    def look(now: float) -> None:
        with pytest.raises(StoreUnavailable):
            used.use(lambda connection: connection.execute("SELECT 1"), now)

    return look


def of_progress(away: Away) -> Look:
    return Progress(away).look


def of_sampler(away: Away) -> Look:
    sampler = Sampler(redis.Redis(port=1), away)
    return lambda now: sampler.sample([workers()], now)


@pytest.mark.parametrize(
    ("loop", "seconds"),
    [
        pytest.param(of_ledger, ledger.RETRY_SECONDS, id="ledger"),
        pytest.param(of_progress, progress.RETRY_SECONDS, id="progress"),
        pytest.param(of_sampler, sampling.RETRY_SECONDS, id="sampling"),
    ],
)
def test_a_database_that_is_away_is_asked_again(
    loop: Callable[[Away], Callable[[float], object]], seconds: float
) -> None:
    away = Away()
    look = loop(away)
    look(NOW)
    look(NOW + seconds - 1)
    assert away.asked == 1
    look(NOW - HOUR)
    assert away.asked == 2
    look(NOW - HOUR + seconds - 1)
    assert away.asked == 2


def test_queues_that_nobody_serves_are_told_again() -> None:
    cluster = MemoryCluster()
    teller = Unserved(cluster)
    for now in (NOW, NOW + 1, NOW - 2 * HOUR, NOW - 2 * HOUR + NOTICE_SECONDS - 1):
        teller.tell({"lost": 1}, now)
    assert len(cluster.events) == 2


def test_a_node_s_numbers_are_written_and_its_turns_told() -> None:
    assert not worth_writing({"acceptedToday": 1}, {"acceptedToday": 2}, NUMBERS_SECONDS - 1)
    assert worth_writing({"acceptedToday": 1}, {"acceptedToday": 2}, -HOUR)
    cluster, last, node = MemoryCluster(), NodeReport(), parse_node(node_manifest())
    silent = Reach(False, Reason.NO_ANSWER, "it is silent")
    assert EVENT_SECONDS < HOUR
    for now in (NOW, NOW - HOUR):
        for reach in (FACTS.reach, silent):
            report(cluster, node, replace(FACTS, reach=reach), last, now)
    assert [event.reason for event in cluster.events].count("Unreachable") == 2
