"""Give a node's unsent mail to another node: of one that was deleted, or that is to be emptied.

Only what waits is moved, page by page, each in a transaction of its own. What is being sent right now stays with its
node; what comes back of it waits there, and the next pass finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, text

from postfleet_workers.enqueue import notify
from postfleet_workers.errors import InputError
from postfleet_workers.mail.sites import limiting_sites
from postfleet_workers.states import WAITING, State
from postfleet_workers.store.session import transaction
from postfleet_workers.tenants import require

PAGE = 2_000
PASSES = 5  # over what somebody else had locked, or what came back, meanwhile

FIND_NODE = text("SELECT spec FROM sending_nodes WHERE name = :name")
SURVEY = text("""
SELECT tenant, count(*) FILTER (WHERE state <> 'executing') AS waiting,
       count(*) FILTER (WHERE state = 'executing') AS sending
FROM jobs WHERE split_part(route, '/', 1) = :old AND state = ANY(CAST(:states AS text[]))
GROUP BY tenant ORDER BY tenant
""")
# The offer ends with the move: a message that carries the row by the old road claims nothing. Passes over what a worker
# or the relay has locked, as they would deadlock with it. A site stays in the route where it limits the new node too.
MOVE = text("""
WITH picked AS (
    SELECT id FROM jobs WHERE id > :after AND split_part(route, '/', 1) = :old
      AND tenant = ANY(CAST(:tenants AS text[])) AND state = ANY(CAST(:states AS text[]))
    ORDER BY id LIMIT :most FOR UPDATE SKIP LOCKED
), moved AS (
    UPDATE jobs j SET published_until = NULL,
        route = CASE WHEN split_part(j.route, '/', 2) = ANY(CAST(:sites AS text[]))
                     THEN :new || '/' || split_part(j.route, '/', 2) ELSE :new END
    FROM picked WHERE j.id = picked.id RETURNING j.id, j.queue
), mail AS (
    UPDATE emails e SET node = :new FROM moved WHERE e.job_id = moved.id
)
SELECT count(*) AS jobs, max(id) AS last, array_agg(DISTINCT queue) AS queues FROM moved
""")
# Only what no server was asked to take yet. Last come, first to go: what is at the head leaves soon where it is.
MOVE_UNTRIED = text("""
WITH picked AS (
    SELECT j.id FROM jobs j JOIN emails e ON e.job_id = j.id
    WHERE j.queue = :queue AND j.state = 'available' AND j.tenant = :tenant AND j.batch = :batch AND j.route = :old
      AND (j.published_until IS NULL OR j.published_until <= postfleet_now()) AND j.attempt = 0 AND j.snoozes = 0
      AND e.begun_at IS NULL AND e.deferrals = 0 AND e.resends = 0
    ORDER BY j.priority DESC, j.run_at DESC, j.id DESC LIMIT :most FOR UPDATE OF j SKIP LOCKED
), moved AS (
    UPDATE jobs j SET route = :new, published_until = NULL FROM picked WHERE j.id = picked.id RETURNING j.id
)
UPDATE emails e SET node = split_part(:new, '/', 1) FROM moved WHERE e.job_id = moved.id
""")
SISTERS = text("SELECT 'campaign:' || id AS batch, nodes FROM campaigns WHERE id = ANY(CAST(:ids AS bigint[]))")
CAMPAIGNS = text("""
SELECT name FROM campaigns WHERE :old = ANY(nodes) AND state IN ('draft', 'expanding', 'paused')
  AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant) ORDER BY name
""")


@dataclass(frozen=True, slots=True)
class Unsent:
    """Unfinished mail of a node: how much waits, and how much is being sent."""

    waiting: int
    sending: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be moved.

    Attributes:
        old: the node whose mail it is; it need not exist any more.
        new: the node to take it.
        tenant: only this tenant's; None is everybody's.
        tenants: to whom `new` is open; None is everybody.
        sites: named sites that limit the mail of `new`.
        unsent: by tenant, when the plan was made.
    """

    old: str
    new: str
    tenant: str | None
    tenants: frozenset[str] | None
    sites: frozenset[str]
    unsent: Mapping[str, Unsent]

    def may(self, tenant: str) -> bool:
        """Whether that tenant's mail can be moved."""
        return self.tenants is None or tenant in self.tenants

    @property
    def movable(self) -> int:
        """Mails that wait and can be moved."""
        return sum(unsent.waiting for tenant, unsent in self.unsent.items() if self.may(tenant))


@dataclass(frozen=True, slots=True)
class Rerouted:
    """What became of a plan.

    Attributes:
        moved: mails.
        sending: mails that `old` sends now.
        closed: mails that stay because `new` is not open to their tenant, by tenant.
        campaigns: names of those that may yet make mail for `old`.
    """

    moved: int
    sending: int
    closed: Mapping[str, int]
    campaigns: tuple[str, ...]


def plan(connection: Connection, old: str, new: str, tenant: str | None = None) -> Plan:
    """What there is to move.

    Raises:
        InputError: a name is missing, the nodes are the same one, `new` does not exist, nobody knows `old`, there is no
            such tenant, or `new` is not open to it.
    """
    if not old:  # the route of every job that is no mail
        raise InputError("give the name of the node that has the mail")
    if old == new:
        raise InputError(f"{old!r} twice: give the node that has the mail, then the one to take it")
    found = connection.execute(FIND_NODE, {"name": new}).one_or_none()
    if found is None:
        raise InputError(f"sending node {new!r} does not exist")
    if tenant is not None:
        require(connection, tenant)
    tenants = frozenset(found.spec.get("tenants") or ()) or None
    if tenant is not None and tenants is not None and tenant not in tenants:
        raise InputError(f"sending node {new!r} is not open to tenant {tenant!r}")
    unsent = _survey(connection, old)
    if not unsent and connection.execute(FIND_NODE, {"name": old}).one_or_none() is None:
        raise InputError(f"{old!r} is no sending node, and no unsent mail has it")
    return Plan(old, new, tenant, tenants, limiting_sites(found.spec), _of(unsent, tenant))


def carry_out(engine: Engine, plan: Plan, on_page: Callable[[int], object]) -> Rerouted:
    """Move the mail; `on_page` is told after each page how many have been moved so far."""
    moved, unsent = 0, plan.unsent
    for _ in range(PASSES):
        wanted = [tenant for tenant, one in unsent.items() if one.waiting and plan.may(tenant)]
        if not wanted:
            break
        after: int | None = 0
        while after is not None:
            with transaction(engine) as connection:
                jobs, after = _move(connection, plan, wanted, after)
            moved += jobs
            on_page(moved)
        with transaction(engine) as connection:
            unsent = _of(_survey(connection, plan.old), plan.tenant)
    with transaction(engine) as connection:
        campaigns = connection.execute(CAMPAIGNS, {"old": plan.old, "tenant": plan.tenant}).scalars().all()
    return Rerouted(
        moved,
        sum(one.sending for one in unsent.values()),
        {tenant: one.waiting for tenant, one in unsent.items() if one.waiting and not plan.may(tenant)},
        tuple(campaigns),
    )


def _move(connection: Connection, plan: Plan, tenants: Iterable[str], after: int) -> tuple[int, int | None]:
    """Move a page; how many, and the last one's id, None after the last page."""
    row = connection.execute(
        MOVE,
        {"old": plan.old, "new": plan.new, "sites": sorted(plan.sites), "tenants": list(tenants),
         "states": sorted(WAITING), "after": after, "most": PAGE},
    ).one()  # fmt: skip
    if row.jobs:
        notify(connection, row.queues)
    return row.jobs, row.last if row.jobs == PAGE else None


def _survey(connection: Connection, old: str) -> dict[str, Unsent]:
    states = sorted(WAITING | {State.EXECUTING})
    rows = connection.execute(SURVEY, {"old": old, "states": states})
    return {row.tenant: Unsent(row.waiting, row.sending) for row in rows}


def _of(unsent: Mapping[str, Unsent], tenant: str | None) -> dict[str, Unsent]:
    return {name: one for name, one in unsent.items() if tenant in (None, name)}


def sisters(connection: Connection, batches: Iterable[str]) -> dict[str, list[str]]:
    """The nodes of these campaigns, by batch."""
    ids = [int(number) for batch in batches if (number := batch.partition(":")[2]).isdecimal()]
    return {row.batch: row.nodes for row in connection.execute(SISTERS, {"ids": ids})}


def move_untried(connection: Connection, queue: str, key: tuple[str, str, str], new: str, most: int) -> int:
    """Give up to `most` mails of a group (tenant, batch, route) that were never tried the route `new`; how many."""
    tenant, batch, old = key
    values = {"queue": queue, "tenant": tenant, "batch": batch, "old": old, "new": new, "most": most}
    return connection.execute(MOVE_UNTRIED, values).rowcount
