"""Expanding a campaign: from a list's contacts to emails and their jobs, a chunk per transaction, each exactly once.

The checkpoint `campaigns.expanded_to` (a contact id) moves in the statement that makes the chunk's rows, so a crash
between two chunks repeats nothing and leaves nothing out; `uq_emails_step` would refuse a second email all the same.
The campaign's row is locked while a chunk is made: pausing and cancelling wait for it, never race with it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, Row, text

from postfleet_workers.enqueue import notify
from postfleet_workers.mail import capacity

CHUNK = 5_000

LOCK = text("""
SELECT c.id, c.tenant, c.list_id, c.nodes, c.queue, c.state, c.expanded_to,
       CAST(timezone('UTC', postfleet_now()) AS date) AS today,
       EXISTS (SELECT FROM holds h WHERE h.kind = 'batch' AND h.key = 'campaign:' || c.id) AS held
FROM campaigns c WHERE c.id = :id FOR UPDATE OF c
""")
# An email and its job are made together, joined by an id taken from the jobs' own sequence. Each contact has a turn by
# its id, and its domain's site, if that limits mail, a round of its own (see `mail.capacity`). Mail of a node that is
# gone by now waits for it; its Message-ID gets the domain when it is composed.
EXPAND = text("""
WITH member AS (
    SELECT contact_id FROM contact_list_members
    WHERE list_id = :list_id AND contact_id > :after ORDER BY contact_id LIMIT :limit
), known AS (
    SELECT * FROM jsonb_to_recordset(CAST(:sites AS jsonb)) AS k(domain text, site text)
), turns AS (
    SELECT * FROM jsonb_to_recordset(CAST(:turns AS jsonb)) AS t(site text, turn integer, node text, route text)
), chunk AS MATERIALIZED (
    SELECT c.id AS contact_id, c.email, nextval(pg_get_serial_sequence('jobs', 'id')) AS job_id, t.node, t.route
    FROM member m JOIN contacts c ON c.id = m.contact_id
    LEFT JOIN known k ON k.domain = lower(substring(c.email FROM '[^@]*$'))
    JOIN turns t ON t.site = coalesce(k.site, '') AND t.turn = c.id % :slots
    ORDER BY c.id
), mail AS (
    INSERT INTO emails (job_id, tenant, campaign_id, contact_id, step, class, node, recipient, message_id, due_at)
    SELECT k.job_id, :tenant, :id, k.contact_id, 0, 'campaign', k.node, k.email,
           '<' || translate(CAST(gen_random_uuid() AS text), '-', '') || coalesce('@' || n.domain, '') || '>',
           postfleet_now()
    FROM chunk k LEFT JOIN (SELECT name, spec #>> '{identity,domain}' AS domain FROM sending_nodes) n ON n.name = k.node
    ORDER BY k.contact_id
    ON CONFLICT (campaign_id, contact_id, step) DO NOTHING
    RETURNING job_id
), work AS (
    INSERT INTO jobs (id, type, queue, tenant, batch, route, run_at)
    SELECT job_id, 'email.send', :queue, :tenant, :batch, route, postfleet_now()
    FROM mail JOIN chunk USING (job_id) ORDER BY job_id
    RETURNING id
), checkpoint AS (
    UPDATE campaigns SET expanded_to = (SELECT max(contact_id) FROM chunk)
    WHERE id = :id AND EXISTS (SELECT FROM chunk)
)
SELECT (SELECT count(*) FROM chunk) AS contacts, (SELECT count(*) FROM work) AS made
""")
FINISH = text("UPDATE campaigns SET state = 'running' WHERE id = :id AND state = 'expanding'")


class Step(StrEnum):
    """What one call of `expand_chunk` found."""

    MADE = "made"
    FINISHED = "finished"
    HELD = "held"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class Chunk:
    """A step and how many emails it made."""

    step: Step
    made: int = 0


def batch_of(campaign_id: int) -> str:
    """The batch that a campaign's jobs belong to."""
    return f"campaign:{campaign_id}"


def expand_chunk(connection: Connection, campaign_id: int, limit: int = CHUNK) -> Chunk:
    """Make the emails and jobs of the next `limit` contacts, in the caller's transaction, and wake the relay."""
    campaign = connection.execute(LOCK, {"id": campaign_id}).one_or_none()
    if campaign is None or campaign.state != "expanding":
        return Chunk(Step.STOPPED)
    if campaign.held:
        return Chunk(Step.HELD)
    sites, turns = _ways(connection, campaign)
    chunk = connection.execute(
        EXPAND,
        {
            "id": campaign.id,
            "tenant": campaign.tenant,
            "list_id": campaign.list_id,
            "sites": json.dumps(sites),
            "turns": json.dumps(turns),
            "slots": capacity.SLOTS,
            "queue": campaign.queue,
            "after": campaign.expanded_to,
            "limit": limit,
            "batch": batch_of(campaign.id),
        },
    ).one()
    if chunk.contacts < limit:
        connection.execute(FINISH, {"id": campaign.id})
    if chunk.made:
        notify(connection, [campaign.queue])
    return Chunk(Step.FINISHED if chunk.contacts < limit else Step.MADE, chunk.made)


def _ways(connection: Connection, campaign: Row[Any]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Sites of domains, and the node and the route of each turn at each of these sites and ('') at any other."""
    able = [node for node in capacity.nodes(connection, campaign.nodes) if node.open_to(campaign.tenant)]
    routes = {node.name: node.route for node in able}
    known = capacity.known_sites(able)
    sites = [{"domain": domain, "site": site} for domain, site in known.items()]
    turns = []
    for site in {"", *known.values()}:
        # Without a node that is there and open to the tenant, the mail waits for those that were named.
        names = (
            capacity.choices(able, site, campaign.today) if able else capacity.rounds(dict.fromkeys(campaign.nodes, 0))
        )
        for turn, name in enumerate(names):
            turns.append({"site": site, "turn": turn, "node": name, "route": routes[name](site) if able else name})
    return sites, turns
