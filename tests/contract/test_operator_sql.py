"""Every SQL statement of the operator runs on the schema that the workers' migrations make."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping
from typing import Any

import psycopg
import pytest
from psycopg.types.json import Jsonb

import postfleet_operator

PARAMETERS: dict[str, dict[str, Any]] = {
    "deliveries.ACCEPTED": {"nodes": ["a"], "since": 0, "until": 60},
    "deliveries.FAILED_SESSIONS": {"nodes": ["a"], "latest": 10},
    "deliveries.LAST_SENT": {"nodes": ["a"]},
    "deliveries.NOW": {},
    "departures.DEPART": {"replica": "r", "seconds_ago": 1.0},
    "nodes.DELETE_OTHERS": {"names": ["a"], "owner": "o", "forgotten": 1.0},
    "nodes.FOREIGN": {"names": ["a"], "owner": "o", "alive": 180},
    "nodes.SEEN": {"owner": "o"},
    "nodes.UPSERT": {"name": "a", "spec": Jsonb({}), "paused": False, "generation": 1, "owner": "o", "alive": 180},
    "progress.HEARTBEATS": {},
    "sampling.COUNT": {"queues": ["q"], "only": "", "bound": 10},
    "simulation.history.ARRIVALS": {"queues": ["q"], "begins": 0, "window": 60},
    "simulation.history.BEGINS": {"window": 60},
    "simulation.history.SERVICE": {"pool": "default/q"},
    "slowdowns.IN_FORCE": {"nodes": ["a"], "most": 10},
    "unserved.COUNT": {"queues": ["q"], "most": 10},
    "unserved.QUEUES": {"served": ["q"], "most": 10},
    "unserved.ROADS": {"queues": ["q"], "nodes": ["a"], "roads": ["q.a"], "most": 10, "next": 10},
}
STATEMENT = re.compile(r"\s*(SELECT|INSERT|UPDATE|DELETE|WITH|LISTEN|NOTIFY)\s+\S")


def statements() -> Mapping[str, str]:
    """Every constant of the package that is one, by `module.NAME`."""
    found = {}
    prefix = f"{postfleet_operator.__name__}."
    for module in pkgutil.walk_packages(postfleet_operator.__path__, prefix):
        for name, value in vars(importlib.import_module(module.name)).items():
            if name.isupper() and isinstance(value, str) and STATEMENT.match(value):
                found[f"{module.name.removeprefix(prefix)}.{name}"] = value
    return found


def test_every_statement_is_tried() -> None:
    assert statements().keys() == PARAMETERS.keys()


@pytest.mark.parametrize("name", PARAMETERS)
def test_it_runs_on_the_migrated_schema(name: str, database_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute(statements()[name], PARAMETERS[name])  # type: ignore[call-overload]
