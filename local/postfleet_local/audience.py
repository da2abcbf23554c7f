"""The demo's contacts: as many rows as asked for, made from the quickstart's file. Pure, but for the files."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path


def rows(contacts: Sequence[Sequence[str]], email_column: int, count: int) -> Iterator[list[str]]:
    """`count` rows: the given ones, then the same people again under `name+1@…`, `name+2@…` and so on."""
    made = 0
    for lap in range(-(-count // len(contacts))):
        for contact in contacts:
            if made == count:
                return
            made += 1
            row = list(contact)
            if lap:
                local, _, domain = row[email_column].rpartition("@")
                row[email_column] = f"{local}+{lap}@{domain}"
            yield row


def write(source: Path, target: Path, count: int) -> None:
    """Write a file of `count` contacts with the columns of `source`."""
    with source.open(encoding="utf-8-sig", newline="") as file:
        header, *contacts = list(csv.reader(file))
    column = [name.strip().lower() for name in header].index("email")
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows([c for c in contacts if c], column, count))
