from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from postfleet_workers.cli import COMMANDS
from postfleet_workers.commands.output import show, show_one, table

AT = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
ROWS = [
    {"name": "acme", "count": 7, "at": AT, "note": None, "more": {"a": 1}},
    {"name": "Zoë & co", "count": 1234, "at": None, "note": "two\nlines", "more": {}},
]


def test_a_table_is_aligned_with_numbers_to_the_right() -> None:
    assert table(ROWS, ("name", "count", "at", "note")).splitlines() == [
        "NAME      COUNT  AT                         NOTE",
        "acme          7  2026-01-02 03:04:05+00:00",
        "Zoë & co   1234                             two lines",
    ]


def test_no_rows_still_have_a_header() -> None:
    assert table([], ("name", "count")) == "NAME  COUNT"


def test_json_is_one_array_of_whole_rows(capsys: pytest.CaptureFixture[str]) -> None:
    show([{"name": "Zoë", "at": AT, "note": None, "more": {"a": 1}, "rate": Decimal("1.5")}], ("name",), "json")

    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out) == [
        {"name": "Zoë", "at": "2026-01-02T03:04:05.000678+00:00", "note": None, "more": {"a": 1}, "rate": 1.5}
    ]


def test_one_row_is_a_line_per_field(capsys: pytest.CaptureFixture[str]) -> None:
    show_one({"name": "acme", "paused": False, "nodes": ["a", "b"]}, "table")

    assert capsys.readouterr().out.splitlines() == ["name    acme", "paused  no", "nodes   a, b"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_in_the_table_loads_and_has_help(name: str) -> None:
    assert COMMANDS[name].load().help
