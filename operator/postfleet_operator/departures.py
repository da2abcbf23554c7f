"""Tell the ledger that a replica is gone for certain: its jobs come back at once, not when its lease lapses.

Only for whoever knows that no process of it is left (a reaped process group, a deleted pod). A worker that is merely
silent is the lease's business.
"""

from __future__ import annotations

from typing import Any

import psycopg

from postfleet_operator.errors import StoreUnavailable, said

# A successor of the same name may have begun in the meantime: only what began before the end is gone.
DEPART = """
UPDATE workers SET stopped_at = postfleet_now(), busy = 0
WHERE replica = %(replica)s AND stopped_at IS NULL
  AND started_at <= postfleet_now() - make_interval(secs => %(seconds_ago)s)
"""


def depart(connection: psycopg.Connection[Any], replica: str, seconds_ago: float) -> int:
    """Mark the worker processes of a replica that ended `seconds_ago` as stopped; how many.

    Raises:
        StoreUnavailable: PostgreSQL does not answer; the lease does it later.
    """
    try:
        with connection.transaction():
            return connection.execute(DEPART, {"replica": replica, "seconds_ago": seconds_ago}).rowcount
    except psycopg.OperationalError as error:
        raise StoreUnavailable(f"PostgreSQL: {said(error)}") from error
