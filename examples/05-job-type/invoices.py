"""A job type of your own: `shop.invoice` writes the invoice of a paid order.

Workers load it with POSTFLEET_JOB_MODULES=invoices, which asks this module for `job_types`.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import text

from postfleet_workers.actors import Services
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.jobs import Done, Job, JobType, Outcome, Permanent, Run, Snooze, Transient, each
from postfleet_workers.store.session import transaction

TYPE = "shop.invoice"
QUEUE = "invoices"
LOOK_AGAIN_SECONDS = 1.0
MOST_LOOKS = 3600

FIND = text("SELECT quantity * unit_cents AS total_cents, paid FROM shop_orders WHERE id = :id")
# A job may run twice (its worker may die between the commit here and the note that it is done): the order's id is the
# invoice's key, so a second run changes nothing.
WRITE = text("""
INSERT INTO shop_invoices (order_id, total_cents) VALUES (:id, :total_cents) ON CONFLICT (order_id) DO NOTHING
""")


def job_types(services: Services) -> Iterable[JobType]:
    """What this module offers. Called once per process, with what a job type may use."""

    def invoice(job: Job, run: Run) -> Outcome:  # noqa: ARG001 - one order is quick: no need to ask `run.stopping()`
        order_id = job.args["order_id"]
        try:
            with transaction(services.engine) as connection:
                order = connection.execute(FIND, {"id": order_id}).one_or_none()
                if order is None:
                    return Permanent(f"there is no order {order_id}")
                if not order.paid and job.snoozes >= MOST_LOOKS:
                    return Permanent(f"order {order_id} was never paid")
                if not order.paid:
                    return Snooze(LOOK_AGAIN_SECONDS, f"order {order_id} is not paid yet")
                connection.execute(WRITE, {"id": order_id, "total_cents": order.total_cents})
        except StoreUnavailable as error:
            return Transient(str(error))
        return Done()

    yield JobType(TYPE, QUEUE, each(invoice), timeout_seconds=60.0, bundle_size=20)
