"""Who gets no mail: from one tenant, or (tenant '') from anyone. Looked up before a mail is sent and at every import.

An address has one entry per tenant. A second reason for it is added to the entry: the stronger one counts, the other is
kept in words. An erased address is known by its keyed hash alone (see `erasure`); nothing here writes it down again.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, text

from postfleet_workers.contacts.addresses import BadAddress, normalized
from postfleet_workers.jobs import HandBack, Settled
from postfleet_workers.mail.replies.classify import Bounced, classify
from postfleet_workers.mail.replies.outcome import MailRecord, Status
from postfleet_workers.mail.replies.reply import Phase, Reply
from postfleet_workers.mail.replies.rules import Scope
from postfleet_workers.mail.tokens import Key, address_hashes
from postfleet_workers.store.arrays import texts

EVERYONE = ""  # the tenant of entries that hold for all
TRANSACTIONAL = "transactional"
# RFC 2606: such a domain never exists. What stands where an address was erased.
ERASED_DOMAIN = "erased.invalid"
# What `compared` leaves as it is, or refuses. International domains (xn--) have several spellings.
_PLAIN = re.compile(r"(?!.*xn--)[a-z0-9!#$%&'*+/=?^_`{|}~.-]+@[a-z0-9.-]+")


class Reason(StrEnum):
    """Why an address gets no mail, the weakest first."""

    UNSUBSCRIBE = "unsubscribe"
    HARD_BOUNCE = "hard_bounce"
    COMPLAINT = "complaint"
    MANUAL = "manual"
    ERASURE = "erasure"

    def stops(self, mail_class: str) -> bool:
        """Whether mail of that class is stopped: who unsubscribes still gets the password reset that they asked for."""
        return self is not Reason.UNSUBSCRIBE or mail_class != TRANSACTIONAL


# Strength of a reason in SQL.
_RANK = f"array_position(ARRAY[{', '.join(repr(str(reason)) for reason in Reason)}], "

FIND = text("""
SELECT tenant, address, hash, reason, detail, created_at FROM suppressions
WHERE tenant = ANY(CAST(:tenants AS text[]))
  AND (address = ANY(CAST(:addresses AS text[])) OR hash = ANY(CAST(:hashes AS text[])))
""")

# In order of the address, so that two writers cannot wait for each other. `xmax = 0` tells an inserted row from an
# updated one. Of an erased address only the hash may be known, so it gets no row.
ADD = text(f"""
WITH given AS (
    SELECT * FROM unnest(CAST(:tenants AS text[]), CAST(:addresses AS text[]), CAST(:hashes AS text[]),
                         CAST(:reasons AS text[]), CAST(:details AS text[]), CAST(:email_ids AS bigint[]))
        AS g (tenant, address, hashes, reason, detail, email_id)
), erased AS (
    SELECT DISTINCT g.tenant, g.address FROM given g CROSS JOIN unnest(string_to_array(g.hashes, ',')) AS h (hash)
    JOIN suppressions e ON e.hash = h.hash AND e.tenant IN (g.tenant, '')
), written AS (
    INSERT INTO suppressions AS s (tenant, address, reason, detail, email_id)
    SELECT tenant, address, reason, detail, email_id FROM given g
    WHERE NOT EXISTS (SELECT FROM erased e WHERE e.tenant = g.tenant AND e.address = g.address)
    ORDER BY tenant, address
    ON CONFLICT (tenant, address) DO UPDATE SET
        reason = CASE WHEN {_RANK} excluded.reason) > {_RANK} s.reason) THEN excluded.reason ELSE s.reason END,
        email_id = coalesce(excluded.email_id, s.email_id),
        detail = CASE WHEN {_RANK} excluded.reason) > {_RANK} s.reason)
            THEN concat_ws('; ', excluded.detail, 'also ' || s.reason, s.detail)
            ELSE concat_ws('; ', s.detail, 'also ' || excluded.reason) END
        WHERE {_RANK} excluded.reason) > {_RANK} s.reason) OR s.reason <> excluded.reason
            AND position('also ' || excluded.reason IN coalesce(s.detail, '')) = 0
    RETURNING xmax = 0 AS added
)
SELECT count(*) FILTER (WHERE added) AS added, count(*) FILTER (WHERE NOT added) AS changed,
       (SELECT count(*) FROM erased) AS erased
FROM written
""")  # noqa: S608 - the names of the reasons, joined

# The same for the recipients of mails, whose address needs no more than lower case: they went out to it.
RECIPIENTS = text("""
SELECT e.id, e.tenant, lower(e.recipient) AS address
FROM emails e WHERE e.id = ANY(:ids) AND e.recipient NOT LIKE '%@erased.invalid'
""")
RECIPIENTS_OF_JOBS = text("""
SELECT e.id, e.job_id, e.tenant, lower(e.recipient) AS address
FROM emails e WHERE e.job_id = ANY(:job_ids) AND e.recipient NOT LIKE '%@erased.invalid'
""")

REMOVE = text("""
DELETE FROM suppressions WHERE tenant = :tenant AND (address = :address OR hash = ANY(:hashes))
RETURNING reason, detail, created_at
""")
_SHOWN = """
SELECT id, tenant, address, hash, reason, detail, email_id, created_at FROM suppressions
WHERE id > :after AND (CAST(:tenant AS text) IS NULL OR tenant = :tenant)
  AND (CAST(:reason AS text) IS NULL OR reason = :reason)
"""
PAGE = text(f"{_SHOWN} ORDER BY id LIMIT :limit")
NEWEST = text(f"{_SHOWN} ORDER BY id DESC LIMIT :limit")


@dataclass(frozen=True, slots=True)
class Suppressed:
    """Why an address gets no mail; `everyone`: from no tenant."""

    reason: Reason
    everyone: bool
    detail: str | None = None
    since: datetime | None = None

    def __str__(self) -> str:
        where = " (from anyone)" if self.everyone else ""
        return f"{self.reason}{where}: {self.detail}" if self.detail else f"{self.reason}{where}"


@dataclass(frozen=True, slots=True)
class Entry:
    """An address to suppress. `address` is in its compared form (`compared`)."""

    tenant: str
    address: str
    reason: Reason
    detail: str | None = None
    email_id: int | None = None


@dataclass(frozen=True, slots=True)
class Added:
    """What `add` did: new entries, entries that got a stronger or another reason, known ones, erased addresses."""

    added: int = 0
    changed: int = 0
    known: int = 0
    erased: int = 0

    def __add__(self, other: Added) -> Added:
        return Added(
            self.added + other.added,
            self.changed + other.changed,
            self.known + other.known,
            self.erased + other.erased,
        )


# Whom a mail is from, whom to, and of which class it is.
Wanted = tuple[str, str, str]


def compared(address: str) -> str:
    """The one form in which addresses are compared: lower case, domain in ASCII.

    Raises:
        BadAddress: it is none.
    """
    return normalized(address)


def is_plain(address: str) -> bool:
    """Whether an address stands in its compared form as it is, and in no place of an erased one: most do."""
    return _PLAIN.fullmatch(address) is not None and not address.endswith(ERASED_DOMAIN)


def find(connection: Connection, wanted: Collection[Wanted], key: Key | None) -> dict[Wanted, Suppressed]:
    """Which of these mails must not go out, and why; one query, however many.

    Args:
        connection: to PostgreSQL.
        wanted: tenant, recipient and class of each mail; the recipient in any form.
        key: of the hashes of erased addresses; without it those are not recognised.
    """
    if not wanted:
        return {}
    forms = {address: _form(address) for _, address, _ in wanted}
    hashes = {form: address_hashes(key, form) for form in forms.values()} if key else {}
    parameters = {
        "tenants": texts([EVERYONE, *{tenant for tenant, _, _ in wanted}]),
        "addresses": texts(set(forms.values())),
        "hashes": texts([each for several in hashes.values() for each in several]),
    }
    entries = {
        (row.tenant, row.address or row.hash): Suppressed(
            Reason(row.reason), row.tenant == EVERYONE, row.detail, row.created_at
        )
        for row in connection.execute(FIND, parameters).all()
    }
    found = {}
    for mail in wanted:
        tenant, address, mail_class = mail
        form = forms[address]
        if form.endswith(f"@{ERASED_DOMAIN}"):
            found[mail] = Suppressed(Reason.ERASURE, everyone=False)
            continue
        for place in ((owner, name) for owner in (EVERYONE, tenant) for name in (form, *hashes.get(form, ()))):
            why = entries.get(place)
            if why is not None and why.reason.stops(mail_class):
                found[mail] = why
                break
    return found


def add(connection: Connection, entries: Iterable[Entry], key: Key | None) -> Added:
    """Suppress addresses; safe to repeat. Of two entries for one address the stronger counts."""
    chosen: dict[tuple[str, str], Entry] = {}
    given = 0
    for entry in entries:
        given += 1
        place = (entry.tenant, entry.address)
        if place not in chosen or _strength(chosen[place].reason) < _strength(entry.reason):
            chosen[place] = entry
    if not chosen:
        return Added()
    rows = list(chosen.values())
    parameters = {
        "tenants": [row.tenant for row in rows],
        "addresses": [row.address for row in rows],
        "hashes": [",".join(address_hashes(key, row.address)) if key else None for row in rows],
        "reasons": [str(row.reason) for row in rows],
        "details": [row.detail for row in rows],
        "email_ids": [row.email_id for row in rows],
    }
    counts = connection.execute(ADD, parameters).one()
    known = given - counts.added - counts.changed - counts.erased
    return Added(counts.added, counts.changed, known, counts.erased)


def of_emails(connection: Connection, whys: Mapping[int, tuple[Reason, str | None]], key: Key | None) -> Added:
    """Suppress the recipients of these emails for the emails' tenants; emails that are gone are passed over.

    Args:
        connection: in a transaction.
        whys: reason and detail by email id.
        key: of the hashes of erased addresses.
    """
    rows = connection.execute(RECIPIENTS, {"ids": list(whys)}).all()
    return add(connection, [Entry(row.tenant, row.address, *whys[row.id], email_id=row.id) for row in rows], key)


def from_records(connection: Connection, settled: Sequence[Settled], key: Key | None = None) -> Added:
    """Suppress the recipients whose servers just said, for good, that they are none."""
    replies = {}
    for one in settled:
        record = None if isinstance(one.outcome, HandBack) else one.outcome.record
        if one.accepted and isinstance(record, MailRecord) and _gone(record):
            replies[one.job.id] = record.text
    if not replies:
        return Added()
    rows = connection.execute(RECIPIENTS_OF_JOBS, {"job_ids": list(replies)}).all()
    entries = [Entry(row.tenant, row.address, Reason.HARD_BOUNCE, replies[row.job_id], row.id) for row in rows]
    return add(connection, entries, key)


def is_hard(reply: Reply, phase: Phase) -> bool:
    """Whether a refusal means that mail to the address can never arrive: for good, about it, and on a rule's word."""
    verdict = classify(reply, phase)
    return isinstance(verdict, Bounced) and verdict.hard


def remove(connection: Connection, tenant: str, address: str, key: Key | None) -> list[Suppressed]:
    """Let mail go to the address again. What was removed; nothing when there was nothing.

    `address` is in its compared form.
    """
    parameters = {"tenant": tenant, "address": address, "hashes": address_hashes(key, address) if key else []}
    rows = connection.execute(REMOVE, parameters)
    return [Suppressed(Reason(row.reason), tenant == EVERYONE, row.detail, row.created_at) for row in rows]


def page(
    connection: Connection, *, tenant: str | None, reason: str | None = None, after: int = 0, limit: int = 1_000
) -> list[dict[str, Any]]:
    """Entries above the id `after`, in order of it; of one tenant ('' for those of everyone), or of all (None)."""
    parameters = {"tenant": tenant, "reason": reason, "after": after, "limit": limit}
    return [dict(row) for row in connection.execute(PAGE, parameters).mappings()]


def newest(connection: Connection, *, tenant: str | None, reason: str | None, limit: int) -> list[dict[str, Any]]:
    """The newest entries, as `page` gives them."""
    parameters = {"tenant": tenant, "reason": reason, "after": 0, "limit": limit}
    return [dict(row) for row in connection.execute(NEWEST, parameters).mappings()]


def _form(address: str) -> str:
    try:
        return compared(address)
    except BadAddress:
        return address.lower()  # it was accepted once; it must not stop a whole bundle now


def _strength(reason: Reason) -> int:
    return list(Reason).index(reason)


def _gone(record: MailRecord) -> bool:
    """A mail given up after its last deferral has bounced too, but its reply, read again, was no refusal for good."""
    if record.status is not Status.BOUNCED or record.scope != Scope.RECIPIENT or record.code is None:
        return False
    return is_hard(Reply(record.code, record.enhanced, record.text), Phase(record.phase))
