"""Erasing a person's address: nothing of it stays but a keyed hash, which later imports and sends obey.

What was sent stays on record as having gone to someone erased. Mail that has not gone out is cancelled. Replies and
errors keep their words, without the address. A mail that is on its way while its recipient is erased may write the
server's reply down afterwards: erase the address again a little later, which is safe at any time.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, TextClause, text

from postfleet_workers import administration
from postfleet_workers.mail.suppressions import ERASED_DOMAIN, EVERYONE, Reason
from postfleet_workers.mail.tokens import Key, address_hash, address_hashes

# All of a table may have to be read: single mails keep the case in which their recipient was given.
PATIENCE = text("SET LOCAL statement_timeout = '30min'")
FIND_MAILS = text("""
SELECT id, job_id, status IN ('queued', 'sending', 'deferred') AS waiting FROM emails
WHERE lower(recipient) = ANY(:names) AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant) ORDER BY id
""")
ERASE_MAILS = text("UPDATE emails SET recipient = :placeholder, content = NULL WHERE id = ANY(:ids)")
# What they carried, and nobody else does. It is locked first: who gives such a file to a mail at this moment is waited
# for, and then seen, or gets a row of its own.
FILES = text("""
SELECT DISTINCT CAST(jsonb_array_elements_text(content -> 'attachments') AS bigint) FROM emails
WHERE id = ANY(:ids) AND content ? 'attachments'
""")
LOCK_FILES = text("SELECT FROM attachments WHERE id = ANY(:files) ORDER BY id FOR UPDATE")
ERASE_FILES = text("""
DELETE FROM attachments a WHERE id = ANY(:files)
  AND NOT EXISTS (SELECT FROM emails e WHERE e.content ? 'attachments' AND e.content -> 'attachments' @> to_jsonb(a.id))
  AND NOT EXISTS (SELECT FROM campaigns c WHERE a.id = ANY(c.attachments))
""")
ERASE_CONTACTS = text("""
DELETE FROM contacts WHERE email = :address AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
""")
# Their reasons stay: who unsubscribed from one tenant and was erased everywhere is both. A hash of an older key is
# followed by one of the newest, now that the address is known.
ERASE_SUPPRESSIONS = text("""
WITH gone AS (
    DELETE FROM suppressions s
    WHERE (address = :address OR hash = ANY(:older)) AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
    RETURNING tenant, reason
)
INSERT INTO suppressions (tenant, hash, reason) SELECT tenant, :hash, reason FROM gone ON CONFLICT DO NOTHING
""")
REMEMBER = text("""
INSERT INTO suppressions (tenant, hash, reason) VALUES (:owner, :hash, :reason)
ON CONFLICT (tenant, hash) DO UPDATE SET reason = excluded.reason
""")


def _scrub(table: str, where: str, *columns: str) -> TextClause:
    """Put the placeholder where texts have the address."""
    changes = ", ".join(f"{c} = regexp_replace({c}, :written, :placeholder, 'gi')" for c in columns)
    return text(f"UPDATE {table} SET {changes} WHERE {where}")  # noqa: S608 - constants joined


SCRUB = (
    _scrub("emails", "id = ANY(:ids)", "reply"),
    _scrub("email_attempts", "email_id = ANY(:ids)", "reply"),
    _scrub("email_events", "email_id = ANY(:ids)", "detail", "url"),
    _scrub("jobs", "id = ANY(:job_ids)", "last_error", "unique_key"),
    _scrub("job_attempts", "job_id = ANY(:job_ids)", "error"),
    _scrub("slowdowns", "strpos(lower(reply), :address) > 0", "reply"),
)


@dataclass(frozen=True, slots=True)
class Erased:
    """How many emails, contacts and suppressions had the address; how many of the emails will not go out for it."""

    emails: int
    cancelled: int
    contacts: int
    suppressions: int


def placeholder(key: Key, address: str) -> str:
    """What stands where the address was."""
    return f"{address_hash(key, address)}@{ERASED_DOMAIN}"


def written(address: str) -> str:
    """A pattern (PostgreSQL, 9.7.3) of an address as texts have it, and as links have it, with `%40` for its `@`."""
    return "".join(c if c.isalnum() else rf"(?:\{c}|%{ord(c):02x})" for c in address)


def erase(connection: Connection, address: str, tenant: str | None, key: Key) -> Erased:
    """Erase an address, in the caller's transaction; safe to repeat.

    Args:
        connection: in a transaction.
        address: in its compared form.
        tenant: erase what this tenant holds, and suppress the address for it; None: everyone.
        key: of the hash; the same one, also as an older one, later recognises the address.
    """
    connection.execute(PATIENCE)
    owner = EVERYONE if tenant is None else tenant
    newest, *older = address_hashes(key, address)
    names = {
        "address": address,
        "written": written(address),
        "placeholder": placeholder(key, address),
        "hash": newest,
        "older": older,
        "names": [address, *(f"{each}@{ERASED_DOMAIN}" for each in (newest, *older))],
        "tenant": tenant,
        "owner": owner,
        "reason": str(Reason.ERASURE),
    }
    # First of all: what is imported or enqueued from now on finds this, or is found here.
    suppressions = connection.execute(ERASE_SUPPRESSIONS, names).rowcount
    connection.execute(REMEMBER, names)
    mails = connection.execute(FIND_MAILS, names).all()
    waiting = [mail.job_id for mail in mails if mail.waiting]
    cancelled = sum(moved.changed for moved in administration.cancel(connection, waiting)) if waiting else 0
    everything = {**names, "ids": [mail.id for mail in mails], "job_ids": [mail.job_id for mail in mails]}
    files = list(connection.execute(FILES, everything).scalars())
    for statement in (ERASE_MAILS, *SCRUB):
        connection.execute(statement, everything)
    for statement in (LOCK_FILES, ERASE_FILES) if files else ():
        connection.execute(statement, {"files": files})
    contacts = connection.execute(ERASE_CONTACTS, names).rowcount
    return Erased(len(mails), cancelled, contacts, suppressions)
