"""Loading contacts into PostgreSQL: COPY into a temporary table, then one INSERT per batch, one transaction per batch.

A batch that is committed stays; a rerun of the same file finds its contacts unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg
from sqlalchemy import Connection, text

from postfleet_workers.contacts.intake import Contact

ADD_TENANT = text("INSERT INTO tenants (name) VALUES (:tenant) ON CONFLICT DO NOTHING")
ADD_LIST = text("INSERT INTO contact_lists (tenant, name) VALUES (:tenant, :name) ON CONFLICT DO NOTHING")
FIND_LIST = text("SELECT id FROM contact_lists WHERE tenant = :tenant AND name = :name")

# Both live as long as the session. `seen` finds an address that an earlier batch of the same file already had.
PREPARE = text("""
CREATE TEMPORARY TABLE IF NOT EXISTS incoming (email text NOT NULL, attributes jsonb NOT NULL) ON COMMIT DELETE ROWS;
CREATE TEMPORARY TABLE IF NOT EXISTS seen (email text PRIMARY KEY);
TRUNCATE seen
""")
COPY = "COPY incoming (email, attributes) FROM STDIN"
DROP_SEEN = text("""
WITH fresh AS (INSERT INTO seen (email) SELECT email FROM incoming ON CONFLICT DO NOTHING RETURNING email)
DELETE FROM incoming i WHERE NOT EXISTS (SELECT FROM fresh f WHERE f.email = i.email)
""")
# In order of the address, so that two imports at once cannot wait for each other. The file's columns win over what is
# stored, other attributes stay. `xmax = 0` tells an inserted row from an updated one; an unchanged one is not returned.
MERGE = text("""
WITH merged AS (
    INSERT INTO contacts AS c (tenant, email, attributes)
    SELECT :tenant, email, attributes FROM incoming ORDER BY email
    ON CONFLICT (tenant, email) DO UPDATE
        SET attributes = c.attributes || excluded.attributes, updated_at = postfleet_now()
        WHERE c.attributes || excluded.attributes <> c.attributes
    RETURNING xmax = 0 AS added
)
SELECT count(*) FILTER (WHERE added) AS added, count(*) FILTER (WHERE NOT added) AS updated FROM merged
""")
JOIN_LIST = text("""
INSERT INTO contact_list_members (list_id, contact_id)
SELECT :list_id, c.id FROM incoming i JOIN contacts c ON c.tenant = :tenant AND c.email = i.email
ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a batch, or many, did. `joined`: contacts that are new on the list, whether new or known."""

    added: int = 0
    updated: int = 0
    unchanged: int = 0
    duplicates: int = 0
    joined: int = 0

    def __add__(self, other: Loaded) -> Loaded:
        return Loaded(
            self.added + other.added,
            self.updated + other.updated,
            self.unchanged + other.unchanged,
            self.duplicates + other.duplicates,
            self.joined + other.joined,
        )


def ensure_list(connection: Connection, tenant: str, name: str) -> tuple[int, bool]:
    """The id of a tenant's list, and whether the tenant is new; makes what is missing."""
    tenant_is_new = connection.execute(ADD_TENANT, {"tenant": tenant}).rowcount == 1
    connection.execute(ADD_LIST, {"tenant": tenant, "name": name})
    return connection.execute(FIND_LIST, {"tenant": tenant, "name": name}).scalar_one(), tenant_is_new


def prepare(connection: Connection) -> None:
    """Make this session's temporary tables, empty."""
    connection.execute(PREPARE)


def load(connection: Connection, tenant: str, list_id: int, contacts: Sequence[Contact]) -> Loaded:
    """Load one batch. Needs `prepare` once per session; the first of two equal addresses counts."""
    first: dict[str, Contact] = {}
    for contact in contacts:
        first.setdefault(contact.email, contact)
    _copy(connection, list(first.values()))
    seen = connection.execute(DROP_SEEN).rowcount
    counts = connection.execute(MERGE, {"tenant": tenant}).one()
    joined = connection.execute(JOIN_LIST, {"tenant": tenant, "list_id": list_id}).rowcount
    return Loaded(
        added=counts.added,
        updated=counts.updated,
        unchanged=len(first) - seen - counts.added - counts.updated,
        duplicates=len(contacts) - len(first) + seen,
        joined=joined,
    )


def _copy(connection: Connection, contacts: Sequence[Contact]) -> None:
    driver = connection.connection.driver_connection
    if not isinstance(driver, psycopg.Connection):
        raise TypeError("contacts are loaded through psycopg")
    with driver.cursor() as cursor, cursor.copy(COPY) as copy:
        for contact in contacts:
            copy.write_row((contact.email, json.dumps(contact.attributes, ensure_ascii=False)))
