"""The rows that are sent: one table for the loops and the peers, Postfleet's own tables for Postfleet.

Every mail is multipart/alternative of about 1.5 kB, with the recipient's name and city in both parts.
"""

from __future__ import annotations

import json
from typing import Any

import psycopg

SUBJECT = "News for {{ contact.name }}"
TEXT = (
    "Hello {{ contact.name }},\n\n" + "this is what is new in {{ contact.city }} this week.\n" * 7 + "\nYours, Acme\n"
)
HTML = (
    "<html><body><p>Hello {{ contact.name }},</p>\n"
    + "<p>this is what is <b>new</b> in {{ contact.city }} this week.</p>\n" * 7
    + "<p>Yours, Acme</p></body></html>\n"
)
DOMAIN, NODE, TENANT = "acme.example", "bench-1", "acme"
A_LOT = 600_000  # mails a minute: a limit that is asked for and never binds

PLAIN = """
CREATE TABLE IF NOT EXISTS bench_mails (
    id bigint PRIMARY KEY, recipient text NOT NULL, name text NOT NULL, city text NOT NULL,
    state text NOT NULL DEFAULT 'queued', reply text, done_at timestamptz);
CREATE INDEX IF NOT EXISTS bench_mails_queued ON bench_mails (id) WHERE state = 'queued';
TRUNCATE bench_mails;
"""
FILL_PLAIN = """
INSERT INTO bench_mails (id, recipient, name, city)
SELECT n, 'r' || n || '@example.com', 'Person ' || n, 'City ' || n %% 1000 FROM generate_series(%s::int, %s::int) n
"""
EMPTY = """
TRUNCATE jobs, job_attempts, emails, email_attempts, campaigns, contacts, contact_lists, contact_list_members, holds,
    sending_nodes, tenants CASCADE
"""
FILL = """
WITH person AS (
    INSERT INTO contacts (tenant, email, attributes)
    SELECT %(tenant)s, %(prefix)s || n || '@example.com',
           jsonb_build_object('name', 'Person ' || n, 'city', 'City ' || n %% 1000)
    FROM generate_series(1, %(mails)s) n RETURNING id, email
), made AS (SELECT id, email, nextval(pg_get_serial_sequence('jobs', 'id')) AS job_id FROM person
), mail AS (
    INSERT INTO emails (job_id, tenant, campaign_id, contact_id, class, node, recipient, message_id)
    SELECT job_id, %(tenant)s, %(campaign)s, id, 'campaign', %(node)s, email,
           '<' || job_id || '.' || id || '@acme.example>' FROM made)
INSERT INTO jobs (id, type, queue, tenant, batch, route)
SELECT job_id, 'email.send', 'campaign-standard', %(tenant)s, 'campaign:' || %(campaign)s, %(node)s FROM made
"""


def fill_plain(connection: psycopg.Connection, first: int, last: int) -> None:
    """Rows `first` to `last` of `bench_mails`; 1 begins anew."""
    if first == 1:
        connection.execute(PLAIN)
    connection.execute(FILL_PLAIN, (first, last))
    connection.execute("ANALYZE bench_mails")
    connection.commit()


def prepare(connection: psycopg.Connection, smtp_port: int, dkim: bool = False) -> None:
    """Empty Postfleet's tables; a tenant and a sending node, both with limits that never bind."""
    identity: dict[str, Any] = {"domain": DOMAIN, **({"dkim": {"selector": "bench"}} if dkim else {})}
    spec = {
        "smtp": {"host": "127.0.0.1", "port": smtp_port, "tls": "None"},
        "identity": identity,
        "limits": {
            "perMinute": A_LOT, "perHour": 60 * A_LOT, "maxConnections": 200, "messagesPerConnection": 10_000,
        },
        "workers": {"placement": "Shared", "poolRef": {"name": "bench"}},
    }  # fmt: skip
    connection.execute(EMPTY)
    connection.execute("INSERT INTO tenants (name, per_minute) VALUES (%s, %s)", (TENANT, A_LOT))
    connection.execute("INSERT INTO sending_nodes (name, spec) VALUES (%s, %s)", (NODE, json.dumps(spec)))
    connection.execute("INSERT INTO contact_lists (tenant, name) VALUES (%s, 'bench')", (TENANT,))
    connection.commit()


def campaign(connection: psycopg.Connection, name: str, mails: int, *, held: bool = False) -> int:
    """A running campaign with so many mails; its id. `held`: paused, to be let go by `release`."""
    found = connection.execute(
        "INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text, html, state) "
        "SELECT %s, %s, id, %s, %s, %s, %s, %s, 'running' FROM contact_lists RETURNING id",
        (TENANT, name, f"News <news@{DOMAIN}>", [NODE], SUBJECT, TEXT, HTML),
    ).fetchone()
    number = int(found[0]) if found else 0
    if held:
        connection.execute("INSERT INTO holds (kind, key) VALUES ('batch', %s)", (f"campaign:{number}",))
    values = {"tenant": TENANT, "prefix": f"{name}.", "mails": mails, "campaign": number, "node": NODE}
    connection.execute(FILL, values)
    connection.commit()
    connection.autocommit = True
    connection.execute("VACUUM ANALYZE jobs, emails, contacts")
    connection.autocommit = False
    return number


def release(connection: psycopg.Connection) -> None:
    """Let go of every campaign that is held."""
    connection.execute("DELETE FROM holds")
    connection.execute("NOTIFY postfleet_jobs")
    connection.commit()
