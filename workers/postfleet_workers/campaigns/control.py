"""Starting, pausing, resuming and cancelling a campaign.

A pause is a row in `holds`: the relay publishes nothing of the batch, workers claim nothing of it, the expansion stops
after its chunk. `campaigns.state` keeps what the campaign was doing, so resuming is deleting that row.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, text

from postfleet_workers.administration import cancel_batch
from postfleet_workers.campaigns.expansion import batch_of
from postfleet_workers.enqueue import enqueue, notify
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import NewJob

EXPAND = "campaign.expand"
EXPAND_PRIORITY = -10  # before the campaign's own mail: the first chunk must not delay the second

FIND = text("""
SELECT id, tenant, name, queue, state, nodes FROM campaigns
WHERE name = :name AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant) ORDER BY tenant
""")
MISSING_NODES = text("""
SELECT node FROM unnest(CAST(:nodes AS text[])) AS node
WHERE NOT EXISTS (SELECT FROM sending_nodes s WHERE s.name = node) LIMIT 1
""")
START = text("""
UPDATE campaigns SET state = 'expanding', started_at = coalesce(started_at, postfleet_now())
WHERE id = :id AND state IN ('draft', 'expanding') RETURNING id
""")
HOLD = text("INSERT INTO holds (kind, key) VALUES ('batch', :batch) ON CONFLICT DO NOTHING")
RELEASE = text("DELETE FROM holds WHERE kind = 'batch' AND key = :batch")
CANCEL = text("UPDATE campaigns SET state = 'cancelled' WHERE id = :id AND state <> 'cancelled'")


@dataclass(frozen=True, slots=True)
class Campaign:
    """A campaign as people's commands address it."""

    id: int
    tenant: str
    name: str
    queue: str
    state: str
    nodes: tuple[str, ...]

    @property
    def batch(self) -> str:
        """The batch of its jobs."""
        return batch_of(self.id)


def find(connection: Connection, name: str, tenant: str | None = None) -> Campaign:
    """The campaign of that name; without a tenant the name must be unambiguous.

    Raises:
        InputError: there is none, or several tenants have one.
    """
    rows = connection.execute(FIND, {"name": name, "tenant": tenant}).all()
    if not rows:
        whose = f"tenant {tenant!r} has no campaign" if tenant else "no campaign"
        raise InputError(f"{whose} {name!r}; `postfleet campaigns list` shows them")
    if len(rows) > 1:
        tenants = ", ".join(row.tenant for row in rows)
        raise InputError(f"campaign {name!r} is there for tenants {tenants}; choose one with --tenant")
    row = rows[0]
    return Campaign(row.id, row.tenant, row.name, row.queue, row.state, tuple(row.nodes))


def start(connection: Connection, campaign: Campaign) -> int:
    """Start a draft: one job expands it; returns that job's id. Restarts an expansion whose job was discarded.

    Raises:
        InputError: it was started already, or cancelled, or one of its nodes is gone.
    """
    missing = connection.execute(MISSING_NODES, {"nodes": list(campaign.nodes)}).scalar_one_or_none()
    if missing:
        raise InputError(f"campaign {campaign.name!r}: there is no sending node {missing!r}; apply it first")
    if connection.execute(START, {"id": campaign.id}).scalar_one_or_none() is None:
        state = "was cancelled" if campaign.state == "cancelled" else "was started already"
        raise InputError(f"campaign {campaign.name!r} {state}")
    job_id = enqueue(
        connection,
        NewJob(
            EXPAND,
            campaign.queue,
            {"campaign_id": campaign.id},
            tenant=campaign.tenant,
            batch=campaign.batch,
            priority=EXPAND_PRIORITY,
            unique_key=campaign.batch,
        ),
    )
    if job_id is None:
        raise InputError(f"campaign {campaign.name!r} was started already")
    return job_id


def pause(connection: Connection, campaign: Campaign) -> bool:
    """Hold everything of the campaign that has not begun; False if it was paused already.

    Raises:
        InputError: it is a draft or cancelled.
    """
    if campaign.state in {"draft", "cancelled"}:
        raise InputError(f"campaign {campaign.name!r} is {campaign.state}; there is nothing to pause")
    return connection.execute(HOLD, {"batch": campaign.batch}).rowcount == 1


def resume(connection: Connection, campaign: Campaign) -> bool:
    """Go on with a paused campaign; False if it was not paused."""
    released = connection.execute(RELEASE, {"batch": campaign.batch}).rowcount == 1
    if released:
        notify(connection, [campaign.queue])
    return released


def stop(connection: Connection, campaign: Campaign) -> None:
    """First step of cancelling: no chunk is expanded and no mail begun any more. Then call `cancel_some` until 0."""
    connection.execute(CANCEL, {"id": campaign.id})  # waits for a chunk that is being made
    connection.execute(HOLD, {"batch": campaign.batch})


def cancel_some(connection: Connection, campaign: Campaign, limit: int = 5_000) -> int:
    """Cancel up to `limit` jobs with their mail. Mail on its way is asked to stop and may still arrive."""
    cancelled = cancel_batch(connection, campaign.batch, limit=limit)
    if not cancelled:
        connection.execute(RELEASE, {"batch": campaign.batch})
    return cancelled
