"""How commands show rows: an aligned table for people, a JSON array for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, TypeVar

import click

Row = Mapping[str, Any]
F = TypeVar("F", bound=Callable[..., Any])


class Output(StrEnum):
    """What `--output` takes."""

    TABLE = "table"
    JSON = "json"


def output_option(function: F) -> F:
    """Give a command `--output table|json`; it arrives as the keyword `output`."""
    choice = click.Choice([o.value for o in Output])
    return click.option("--output", type=choice, default=Output.TABLE.value, show_default=True, help="How to print.")(
        function
    )


def _plain(value: Any) -> Any:
    match value:
        case datetime() | date():
            return value.isoformat()
        case Decimal():
            return float(value)
        case Mapping():
            return dict(value)
        case _:
            return str(value)


def as_json(value: Any) -> str:
    """One line of JSON; times in ISO 8601 with their offset, text unescaped."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def cell(value: Any) -> str:
    """A value as a table shows it: nothing for None, times to the second."""
    match value:
        case None:
            return ""
        case bool():
            return "yes" if value else "no"
        case datetime():
            return value.isoformat(sep=" ", timespec="seconds")
        case str():
            return " ".join(value.split())
        case Mapping():
            return as_json(value)
        case list() | tuple():
            return ", ".join(cell(v) for v in value)
        case _:
            return str(value)


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Plain text in aligned columns under a header; numbers to the right."""
    cells = [[cell(row.get(column)) for column in columns] for row in rows]
    header = [column.upper() for column in columns]
    widths = [max(len(line[i]) for line in [header, *cells]) for i in range(len(columns))]
    right = [_numeric(rows, column) for column in columns]

    def line(values: Sequence[str]) -> str:
        parts = (v.rjust(w) if r else v.ljust(w) for v, w, r in zip(values, widths, right, strict=True))
        return "  ".join(parts).rstrip()

    return "\n".join(line(values) for values in [header, *cells])


def _is_number(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def show(rows: Iterable[Row], columns: Sequence[str], output: str) -> None:
    """Print rows: `columns` of each as a table, or everything of each as one JSON array."""
    rows = [dict(row) for row in rows]
    if output == Output.JSON:
        click.echo(as_json(rows))
    elif sys.stdout.isatty():
        _show_on_terminal(rows, columns)
    else:
        click.echo(table(rows, columns))


def show_one(row: Row, output: str) -> None:
    """Print one thing: a JSON object, or a `name: value` line per field."""
    if output == Output.JSON:
        click.echo(as_json(dict(row)))
        return
    width = max((len(name) for name in row), default=0)
    for name, value in row.items():
        click.echo(f"{name.ljust(width)}  {cell(value)}".rstrip())


def _show_on_terminal(rows: Sequence[Row], columns: Sequence[str]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold", justify="right" if _numeric(rows, column) else "left")
    for row in rows:
        drawn.add_row(*(Text(cell(row.get(column))) for column in columns))
    Console().print(drawn)


def _numeric(rows: Sequence[Row], column: str) -> bool:
    return bool(rows) and all(_is_number(row.get(column)) for row in rows)
