"""The application: it places orders, and each order enqueues its invoice in the same transaction.

`python shop.py 200` places 200 orders in the database of POSTFLEET_DATABASE_URL.
"""

from __future__ import annotations

import os

import click
from invoices import QUEUE, TYPE
from sqlalchemy import Connection, text

from postfleet_workers.enqueue import enqueue
from postfleet_workers.jobs import NewJob
from postfleet_workers.store.session import engine_for, transaction

TABLES = text("""
CREATE TABLE IF NOT EXISTS shop_orders (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, quantity integer NOT NULL, unit_cents integer NOT NULL,
    paid boolean NOT NULL DEFAULT true);
CREATE TABLE IF NOT EXISTS shop_invoices (
    order_id bigint PRIMARY KEY REFERENCES shop_orders, total_cents integer NOT NULL,
    written_at timestamptz NOT NULL DEFAULT now());
""")
ADD = text("INSERT INTO shop_orders (quantity, unit_cents, paid) VALUES (:quantity, :unit_cents, :paid) RETURNING id")
PAY = text("UPDATE shop_orders SET paid = true WHERE id = :id")


def create_tables(connection: Connection) -> None:
    """The shop's own tables."""
    connection.execute(TABLES)


def place_order(connection: Connection, quantity: int, unit_cents: int, *, paid: bool = True) -> int:
    """Write an order and enqueue its invoice, in the caller's transaction: both are committed, or neither."""
    values = {"quantity": quantity, "unit_cents": unit_cents, "paid": paid}
    order_id: int = connection.execute(ADD, values).scalar_one()
    enqueue(connection, NewJob(TYPE, QUEUE, {"order_id": order_id}, unique_key=f"order-{order_id}"))
    return order_id


def pay(connection: Connection, order_id: int) -> None:
    """Note that the money has come."""
    connection.execute(PAY, {"id": order_id})


@click.command()
@click.argument("orders", type=click.IntRange(1, 100_000), default=200)
def main(orders: int) -> None:
    """Place some orders."""
    engine = engine_for(os.environ["POSTFLEET_DATABASE_URL"], connections=1, application_name="shop")
    with transaction(engine) as connection:
        create_tables(connection)
        for number in range(orders):
            place_order(connection, quantity=1 + number % 5, unit_cents=995)
    click.echo(f"placed {orders:,} orders")


if __name__ == "__main__":
    main()
