"""Importing a CSV file: read, judge and load it in batches, so that an interruption loses nothing that was done.

A batch is one transaction. Running the same file again is safe: what is there already is counted as unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice

from sqlalchemy import Connection, Engine

from postfleet_workers.contacts.columns import Columns
from postfleet_workers.contacts.intake import Contact, Reject, judge
from postfleet_workers.contacts.loading import Loaded, ensure_list, load, prepare
from postfleet_workers.contacts.reading import CsvFile, Record
from postfleet_workers.contacts.rejects import RejectsFile
from postfleet_workers.errors import StoreUnavailable
from postfleet_workers.store.session import store_errors

BATCH_ROWS = 5_000

# Which of these addresses get no mail from the tenant, and why in words. All of a batch at once.
Suppressed = Callable[[Connection, Sequence[str]], Mapping[str, str]]


@dataclass(slots=True)
class Progress:
    """How far an import is; kept up to date after every batch."""

    rows: int = 0
    rejected: int = 0
    suppressed: int = 0
    bytes_read: int = 0
    loaded: Loaded = field(default_factory=Loaded)
    tenant_is_new: bool = False


def import_contacts(
    engine: Engine,
    file: CsvFile,
    columns: Columns,
    rejects: RejectsFile,
    *,
    tenant: str,
    list_name: str,
    suppressed: Suppressed,
    progress: Progress | None = None,
    on_batch: Callable[[Progress], None] = lambda _: None,
    batch_rows: int = BATCH_ROWS,
) -> Progress:
    """Load every good row onto the tenant's list, and write the others, and those who want no mail, to `rejects`.

    Args:
        engine: where to.
        file: the open file.
        columns: what its columns mean.
        rejects: takes the bad rows.
        tenant: made if missing.
        list_name: made if missing.
        suppressed: finds those who get no mail.
        progress: kept up to date; give one to know how far an interrupted import came.
        on_batch: called after each committed batch.
        batch_rows: rows per transaction.

    Raises:
        StoreUnavailable: PostgreSQL went away; what was committed stays.
        InputError: the rejects cannot be written.
    """
    done = progress or Progress()
    try:
        with store_errors(), engine.connect() as connection:
            with connection.begin():
                list_id, done.tenant_is_new = ensure_list(connection, tenant, list_name)
                prepare(connection)
            for batch in _batches(iter(file), batch_rows):
                judged = [judge(record, columns) for record in batch]
                contacts = [one for one in judged if isinstance(one, Contact)]
                whys: Mapping[str, str] = {}
                if contacts:
                    with connection.begin():
                        whys = suppressed(connection, [contact.email for contact in contacts])
                        wanted = [contact for contact in contacts if contact.email not in whys]
                        if wanted:
                            done.loaded += load(connection, tenant, list_id, wanted)
                for record, one in zip(batch, judged, strict=True):
                    if isinstance(one, Reject):
                        rejects.add(one)
                        done.rejected += 1
                    elif one.email in whys:
                        rejects.add(Reject(record.line, f"suppressed: {whys[one.email]}", record.fields))
                        done.suppressed += 1
                done.rows += len(batch)
                done.bytes_read = file.bytes_read
                on_batch(done)
    except StoreUnavailable as error:
        raise StoreUnavailable(
            f"{error}; {done.rows:,} rows are in, run the same command again for the rest"
        ) from error
    return done


def _batches(records: Iterator[Record], size: int) -> Iterator[list[Record]]:
    while batch := list(islice(records, size)):
        yield batch
