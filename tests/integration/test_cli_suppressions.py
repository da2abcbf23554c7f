"""`postfleet suppressions`, on a real PostgreSQL."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from command import Command
from postfleet_workers.tenants import set_tenant


@pytest.fixture
def postfleet(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("POSTFLEET_SECRET_KEY", "k" * 32)
    with engine.begin() as connection:
        set_tenant(connection, "acme")
    return Command(database_url, monkeypatch)


def held(engine: Engine) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT tenant, address, reason FROM suppressions ORDER BY tenant, address"))
        return [tuple(row) for row in rows]


def test_addresses_are_added_listed_checked_and_removed(postfleet: Command, engine: Engine) -> None:
    for _ in range(2):
        done = postfleet(
            "suppressions", "add", "Ann@Köln.example", "bob@example.org", "--tenant", "acme", "--detail", "x"
        )
        assert done.code == 0
    postfleet("suppressions", "add", "eve@example.org", "--global")

    listed = postfleet("suppressions", "list", "--tenant", "acme", "--output", "json").json
    assert [(row["address"], row["reason"], row["detail"]) for row in listed] == [
        ("bob@example.org", "manual", "x"),
        ("ann@xn--kln-sna.example", "manual", "x"),
    ]
    assert len(postfleet("suppressions", "list", "--output", "json").json) == 3
    assert postfleet("suppressions", "list", "--global", "--reason", "complaint", "--output", "json").json == []

    checked = postfleet("suppressions", "check", "EVE@example.org", "--tenant", "acme", "--output", "json").json
    assert [(row["class"], row["sent"], row["reason"], row["by"]) for row in checked] == [
        (name, False, "manual", "everyone") for name in ("transactional", "campaign", "warmup")
    ]
    assert postfleet("suppressions", "remove", "eve@example.org", "--global").out == "REASON  DETAIL\nmanual\n"
    assert all(
        row["sent"]
        for row in postfleet("suppressions", "check", "eve@example.org", "--tenant", "acme", "--output", "json").json
    )
    assert held(engine) == [("acme", "ann@xn--kln-sna.example", "manual"), ("acme", "bob@example.org", "manual")]


def test_a_file_of_lines_is_imported_and_bad_ones_are_told_with_line_and_reason(
    tmp_path: Path, postfleet: Command, engine: Engine
) -> None:
    file = tmp_path / "list.txt"
    file.write_text("a@example.org\nnot an address\n\nB@example.org\na@example.org\n")

    answer = postfleet("suppressions", "import", file, "--tenant", "acme", "--reason", "unsubscribe")

    assert answer.out == (
        "4 rows to the suppressions of acme: 2 added, 0 changed, 1 known, 0 erased, 1 rejected; "
        f"see {file}.rejected.csv\n"
    )
    assert held(engine) == [("acme", "a@example.org", "unsubscribe"), ("acme", "b@example.org", "unsubscribe")]
    rejected = (tmp_path / "list.txt.rejected.csv").read_text().splitlines()
    assert rejected[1:] == ["2,bad address: An email address must have an @-sign.,not an address"]

    again = postfleet("suppressions", "import", file, "--tenant", "acme", "--output", "json").json
    assert (again["added"], again["changed"], again["known"]) == (0, 2, 1), "a manual entry is the stronger one"


def test_a_providers_list_is_imported_with_its_reasons(tmp_path: Path, postfleet: Command, engine: Engine) -> None:
    file = tmp_path / "list.csv"
    file.write_text(
        "Email;Reason;Status\na@example.org;hard_bounce;550\nb@example.org;;\nc@example.org;spam;\nd@example.org\n"
    )

    summary = postfleet("suppressions", "import", file, "--global", "--output", "json").json

    assert (summary["rows"], summary["added"], summary["rejected"]) == (4, 2, 2)
    assert held(engine) == [("", "a@example.org", "hard_bounce"), ("", "b@example.org", "manual")]
    reasons = [row[1] for row in csv.reader(Path(summary["rejects"]).read_text().splitlines(), delimiter=";")]
    assert reasons[1:] == [
        "reason 'spam' is none of unsubscribe, hard_bounce, complaint, manual, erasure",
        "1 fields instead of 3",
    ]


def test_what_was_exported_can_be_imported_elsewhere(tmp_path: Path, postfleet: Command, engine: Engine) -> None:
    postfleet("suppressions", "add", "=cmd@example.org", "zoe@example.org", "--tenant", "acme", "--detail", "-1+1")
    postfleet("suppressions", "erase", "zoe@example.org", "--tenant", "acme")
    file = tmp_path / "export.csv"

    assert postfleet("suppressions", "export", file, "--tenant", "acme").err == "2 suppressions\n"
    header, *rows = csv.reader(io.StringIO(file.read_text()))
    assert header == ["address", "reason", "detail", "tenant", "created_at", "hash"]
    assert [(row[0], row[1], row[2]) for row in rows] == [
        ("'=cmd@example.org", "manual", "'-1+1"),
        ("", "erasure", ""),
    ]
    assert postfleet("suppressions", "export", "--quiet", "--tenant", "acme").out == file.read_text()

    with engine.begin() as connection:
        connection.execute(text("DELETE FROM suppressions"))
    again = postfleet("suppressions", "import", file, "--tenant", "acme", "--output", "json").json
    assert (again["added"], again["rejected"]) == (2, 0)
    assert held(engine) == [("acme", "=cmd@example.org", "manual"), ("acme", None, "erasure")]
    checked = postfleet("suppressions", "check", "zoe@example.org", "--tenant", "acme", "--output", "json").json
    assert {row["reason"] for row in checked} == {"erasure"}


def test_many_pages_are_exported(tmp_path: Path, postfleet: Command, engine: Engine) -> None:
    file, export = tmp_path / "many.txt", tmp_path / "export.csv"
    file.write_text("\n".join(f"c{number}@example.org" for number in range(12_345)))
    assert postfleet("suppressions", "import", file, "--global", "--output", "json").json["added"] == 12_345
    assert postfleet("suppressions", "export", export).err == "12,345 suppressions\n"
    assert len({row[0] for row in csv.reader(export.read_text().splitlines())}) == 12_346


@pytest.mark.parametrize(
    ("args", "line"),
    [
        pytest.param(("add", "ann@example.org"), "give either --tenant NAME or --global", id="whose"),
        pytest.param(("add", "a@b.example", "--tenant", "x", "--global"), "give either --tenant NAME or", id="both"),
        pytest.param(("add", "ann", "--global"), "'ann': An email address must have an @-sign", id="address"),
        pytest.param(("add", "a@b.example", "--tenant", "a b"), "tenant 'a b' is no name", id="tenant"),
        pytest.param(("add", "a@b.example", "--tenant", "acne"), "tenant 'acne' does not exist; `postfleet", id="typo"),
        pytest.param(("import", "{list}", "--tenant", "acne"), "tenant 'acne' does not exist", id="import-typo"),
        pytest.param(("check", "a@b.example", "--tenant", "acne"), "tenant 'acne' does not exist", id="check-typo"),
        pytest.param(("remove", "a@b.example", "--global"), "a@b.example is not suppressed for everyone", id="absent"),
        pytest.param(("import", "{file}", "--global"), "'address' or 'email'; found 'name', 'phone'", id="columns"),
        pytest.param(("import", "/nowhere", "--global"), "/nowhere: No such file or directory", id="file"),
        pytest.param(("list", "--reason", "x"), "Invalid value for '--reason'", id="reason"),
    ],
)
def test_bad_input_is_one_line(tmp_path: Path, postfleet: Command, args: tuple[str, ...], line: str) -> None:
    file = tmp_path / "columns.csv"
    file.write_text("name,phone\nAnn,1\n")
    addresses = tmp_path / "list.txt"
    addresses.write_text("a@b.example\n")
    answer = postfleet("suppressions", *(arg.format(file=file, list=addresses) for arg in args))
    assert (answer.code, answer.out) == (2, "")
    assert line in answer.err
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(("key", "line"), [("", "POSTFLEET_SECRET_KEY is not set"), ("short", "has 5 characters")])
def test_nothing_is_erased_without_a_key(
    postfleet: Command, monkeypatch: pytest.MonkeyPatch, key: str, line: str
) -> None:
    monkeypatch.setenv("POSTFLEET_SECRET_KEY", key)
    answer = postfleet("suppressions", "erase", "ann@example.org", "--global")
    assert answer.code == 2
    assert line in answer.err
