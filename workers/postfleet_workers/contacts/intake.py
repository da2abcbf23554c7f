"""From a CSV record to a contact, or to the reason why it is none. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from postfleet_workers.contacts.addresses import BadAddress, normalized
from postfleet_workers.contacts.columns import Columns
from postfleet_workers.contacts.reading import Record


@dataclass(frozen=True, slots=True)
class Contact:
    """A row that can be loaded. `email` is normalized."""

    line: int
    email: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that cannot, and why."""

    line: int
    reason: str
    fields: tuple[str, ...]


def judge(record: Record, columns: Columns) -> Contact | Reject:
    """What becomes of one record."""
    fields = record.fields
    if record.problem:
        return Reject(record.line, record.problem, fields)
    if len(fields) != len(columns.header):
        return Reject(record.line, f"{len(fields)} fields instead of {len(columns.header)}", fields)
    if any("\0" in field for field in fields):
        return Reject(record.line, "holds a NUL character", fields)
    try:
        email = normalized(fields[columns.email])
    except BadAddress as error:
        return Reject(record.line, f"bad address: {error}", fields)
    return Contact(record.line, email, columns.attributes_of(fields))
