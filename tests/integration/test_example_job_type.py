"""examples/05-job-type, through a real relay and a real worker."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from sqlalchemy import Engine

from fleet import Fleet
from postfleet_operator.manifests import load

EXAMPLE = Path(__file__).parents[2] / "examples/05-job-type"
ENV = {"POSTFLEET_JOB_MODULES": "invoices", "PYTHONPATH": str(EXAMPLE)}


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch, engine: Engine) -> ModuleType:
    monkeypatch.syspath_prepend(EXAMPLE)
    module = importlib.import_module("shop")
    with engine.begin() as connection:
        module.create_tables(connection)
    return module


def test_every_outcome_of_an_order(fleet: Fleet, shop: ModuleType, engine: Engine) -> None:
    """One fleet for all of them: coming up takes seconds."""
    fleet.relay(env=ENV)
    fleet.worker("invoices", env=ENV)
    with engine.begin() as connection:
        paid = [shop.place_order(connection, quantity, 995) for quantity in (1, 2, 3)]
        unpaid = shop.place_order(connection, 4, 995, paid=False)
        shop.enqueue(connection, shop.NewJob(shop.TYPE, shop.QUEUE, {"order_id": 404}))
    with engine.connect() as connection, connection.begin() as transaction:
        shop.place_order(connection, 9, 995)
        transaction.rollback()
    fleet.until(lambda: fleet.rows("SELECT 1 FROM jobs WHERE snoozes > 0"), "the unpaid order is snoozed")
    with engine.begin() as connection:
        shop.pay(connection, unpaid)

    assert fleet.settled() == {"completed": 4, "discarded": 1}
    invoices = fleet.rows("SELECT order_id, total_cents FROM shop_invoices ORDER BY order_id")
    assert [tuple(row) for row in invoices] == [*zip(paid, (995, 1990, 2985), strict=True), (unpaid, 3980)]
    assert {tuple(row) for row in fleet.rows("SELECT attempt, last_error FROM jobs WHERE state = 'discarded'")} == {
        (1, "there is no order 404")
    }
    assert fleet.rows("SELECT max(attempt) FROM jobs WHERE state = 'completed'")[0] == (1,)


def test_an_order_is_invoiced_once_however_often_it_is_enqueued(shop: ModuleType, engine: Engine) -> None:
    with engine.begin() as connection:
        order = shop.place_order(connection, 1, 995)
        again = shop.NewJob(shop.TYPE, shop.QUEUE, {"order_id": order}, unique_key=f"order-{order}")
        assert shop.enqueue(connection, again) is None


def test_its_command_places_orders(fleet: Fleet, shop: ModuleType, database_url: str) -> None:
    command = [sys.executable, str(EXAMPLE / "shop.py"), "7"]
    done = subprocess.run(
        command, env={**os.environ, "POSTFLEET_DATABASE_URL": database_url}, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "placed 7 orders\n", "")
    assert fleet.states() == {"available": 7}


def test_its_pool_serves_its_queue_with_its_module(shop: ModuleType) -> None:
    (pool,) = load([EXAMPLE / "pool.yaml"]).pools
    assert list(pool.spec.queues) == [shop.QUEUE]
    assert [(variable.name, variable.value) for variable in pool.spec.worker.env] == [
        ("POSTFLEET_JOB_MODULES", "invoices")
    ]
