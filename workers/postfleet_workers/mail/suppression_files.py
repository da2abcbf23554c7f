"""Suppressions from and to files: CSV with a header, or one address per line.

Import takes what export writes, a provider's list (a column `email` or `address`, perhaps `reason`), or plain lines. A
batch is one transaction; running the same file again changes nothing.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import TextIO

from sqlalchemy import Connection, Engine, text

from postfleet_workers.contacts.addresses import BadAddress
from postfleet_workers.contacts.columns import attribute_name
from postfleet_workers.contacts.intake import Reject
from postfleet_workers.contacts.reading import CsvFile, Record
from postfleet_workers.contacts.rejects import RejectsFile
from postfleet_workers.errors import InputError, StoreUnavailable
from postfleet_workers.mail import suppressions
from postfleet_workers.mail.suppressions import Added, Entry, Reason
from postfleet_workers.mail.tokens import Key
from postfleet_workers.store.session import transaction

BATCH_ROWS = 5_000
PAGE_ROWS = 5_000
# What export writes. An erased address has a hash in place of an address.
HEADER = ("address", "reason", "detail", "tenant", "created_at", "hash")
_ADDRESS_COLUMNS = ("address", "email", "email_address", "recipient")
_HASH = re.compile(r"[0-9a-f]{32}")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")

ADD_HASHES = text("""
INSERT INTO suppressions (tenant, hash, reason)
SELECT :tenant, h.hash, h.reason FROM unnest(CAST(:hashes AS text[]), CAST(:reasons AS text[])) AS h (hash, reason)
ORDER BY h.hash ON CONFLICT DO NOTHING
""")


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a file has what; None where it has it not."""

    address: int
    count: int
    reason: int | None = None
    detail: int | None = None
    hash: int | None = None


@dataclass(frozen=True, slots=True)
class Hashed:
    """An erased address of another database with the same key."""

    hash: str
    reason: Reason


@dataclass(slots=True)
class Progress:
    """How far an import is; kept up to date after every batch."""

    rows: int = 0
    rejected: int = 0
    bytes_read: int = 0
    added: Added = field(default_factory=Added)


def understood(header: Sequence[str]) -> Columns | None:
    """What a file's columns mean; None when its first line is an address already, and so are the others.

    Raises:
        InputError: no column has addresses.
    """
    if len(header) == 1 and "@" in header[0]:
        return None
    names = [attribute_name(title) for title in header]
    address = next((names.index(name) for name in _ADDRESS_COLUMNS if name in names), None)
    if address is None:
        found = ", ".join(repr(title.strip()) for title in header)
        raise InputError(f"no column 'address' or 'email'; found {found}; or give one address per line")
    places = {name: names.index(name) for name in ("reason", "detail", "hash") if name in names}
    return Columns(address, len(header), **places)


def judge(record: Record, columns: Columns, tenant: str, otherwise: Reason) -> Entry | Hashed | Reject:
    """What becomes of one record; `otherwise` is the reason of those that name none."""

    def value(index: int | None) -> str:
        return "" if index is None else record.fields[index].strip()

    if record.problem:
        return Reject(record.line, record.problem, record.fields)
    if len(record.fields) != columns.count:
        return Reject(record.line, f"{len(record.fields)} fields instead of {columns.count}", record.fields)
    if any("\0" in given for given in record.fields):
        return Reject(record.line, "holds a NUL character", record.fields)
    named = value(columns.reason).lower()
    if named and named not in set(Reason):
        choices = ", ".join(Reason)
        return Reject(record.line, f"reason {named[:50]!r} is none of {choices}", record.fields)
    reason = Reason(named) if named else otherwise
    if not value(columns.address) and _HASH.fullmatch(value(columns.hash)):
        return Hashed(value(columns.hash), reason)
    try:
        address = suppressions.compared(plain(value(columns.address)))
    except BadAddress as error:
        return Reject(record.line, f"bad address: {error}", record.fields)
    return Entry(tenant, address, reason, plain(value(columns.detail)) or None)


def load(
    engine: Engine,
    file: CsvFile,
    rejects: RejectsFile,
    *,
    tenant: str,
    reason: Reason,
    key: Key | None,
    progress: Progress,
    on_batch: Callable[[Progress], None] = lambda _: None,
) -> Progress:
    """Suppress a file's addresses, and write its bad rows to `rejects`.

    Args:
        engine: where to.
        file: the open file.
        rejects: takes the bad rows.
        tenant: for whom; '' for everyone.
        reason: of rows that name none.
        key: of the hashes of erased addresses.
        progress: kept up to date, so that one knows how far an interrupted import came.
        on_batch: called after each committed batch.

    Raises:
        InputError: no column has addresses, or the rejects cannot be written.
        StoreUnavailable: PostgreSQL went away; what was committed stays.
    """
    columns = understood(file.header)
    records: Iterator[Record] = iter(file)
    if columns is None:
        columns = Columns(address=0, count=1)
        records = chain([Record(1, file.header)], records)
    try:
        while batch := list(islice(records, BATCH_ROWS)):
            judged = [judge(record, columns, tenant, reason) for record in batch]
            with transaction(engine) as connection:
                added = _write(connection, judged, tenant, key)
            for bad in (one for one in judged if isinstance(one, Reject)):
                rejects.add(bad)
                progress.rejected += 1
            progress.added += added
            progress.rows += len(batch)
            progress.bytes_read = file.bytes_read
            on_batch(progress)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}; {progress.rows:,} rows are in, run the same command again for the rest"
        ) from error
    return progress


def export(engine: Engine, file: TextIO, *, tenant: str | None, reason: str | None) -> int:
    """Write suppressions as CSV, a page at a time; how many. Cells that a spreadsheet would run begin with `'`.

    Raises:
        StoreUnavailable: PostgreSQL went away.
    """
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(HEADER)
    written = after = 0
    while True:
        with transaction(engine) as connection:  # none is held open while a slow reader takes a page
            page = suppressions.page(connection, tenant=tenant, reason=reason, after=after, limit=PAGE_ROWS)
        if not page:
            return written
        for row in page:
            row["created_at"] = row["created_at"].isoformat()
            writer.writerow([shown(row[name]) for name in HEADER])
        after = page[-1]["id"]
        written += len(page)


def shown(value: str | None) -> str:
    """A cell that no spreadsheet takes for a formula."""
    text = value or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def plain(cell: str) -> str:
    """What `shown` was made of."""
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(_FORMULA) else cell


def _write(connection: Connection, judged: Sequence[object], tenant: str, key: Key | None) -> Added:
    added = suppressions.add(connection, (one for one in judged if isinstance(one, Entry)), key)
    hashed = {one.hash: one.reason for one in judged if isinstance(one, Hashed)}
    if not hashed:
        return added
    rows = {"tenant": tenant, "hashes": list(hashed), "reasons": [str(reason) for reason in hashed.values()]}
    new = connection.execute(ADD_HASHES, rows).rowcount
    given = sum(isinstance(one, Hashed) for one in judged)
    return added + Added(added=new, known=given - new)
