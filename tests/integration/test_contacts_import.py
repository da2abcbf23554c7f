"""Importing contacts through the command, into a real PostgreSQL."""

from __future__ import annotations

import csv
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from command import Command
from postfleet_workers.contacts.columns import understood
from postfleet_workers.contacts.importing import Progress, import_contacts
from postfleet_workers.contacts.reading import open_csv
from postfleet_workers.contacts.rejects import RejectsFile
from postfleet_workers.errors import StoreUnavailable

Import = Callable[..., dict[str, Any]]


@pytest.fixture
def import_file(postfleet: Command) -> Import:
    def import_file(file: Path, *more: str) -> dict[str, Any]:
        on = ("--tenant", "acme", "--list", "customers", "--output", "json")
        summary: dict[str, Any] = postfleet("contacts", "import", file, *on, *more).json
        return summary

    return import_file


def counts(summary: dict[str, Any]) -> dict[str, int]:
    names = ("rows", "added", "updated", "unchanged", "duplicates", "suppressed", "rejected", "joined")
    return {name: summary[name] for name in names if summary[name]}


def stored(engine: Engine) -> dict[str, dict[str, str]]:
    with engine.connect() as connection:
        return {r.email: r.attributes for r in connection.execute(text("SELECT email, attributes FROM contacts"))}


def members(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(text("SELECT count(*) FROM contact_list_members")).scalar_one()


def test_contacts_arrive_with_their_attributes_on_the_list(tmp_path: Path, postfleet: Command, engine: Engine) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("﻿Email;First Name;Stadt\nAda@Example.org;Ada;Köln\nzoe@example.net;Zoë;\n", encoding="utf-8")

    on = ("--tenant", "acme", "--list", "customers")
    answer = postfleet("contacts", "import", file, *on, "--mapping", "Stadt=city")

    assert answer.code == 0
    assert answer.err == "tenant acme is new; `postfleet tenants set acme` sets its limits\n"
    assert answer.out == (
        "2 rows to list customers of acme: 2 added, 0 updated, 0 unchanged, 0 duplicates, 0 suppressed, 0 rejected\n"
    )
    assert stored(engine) == {
        "ada@example.org": {"first_name": "Ada", "city": "Köln"},
        "zoe@example.net": {"first_name": "Zoë", "city": ""},
    }
    assert members(engine) == 2
    assert not (tmp_path / "contacts.csv.rejected.csv").exists()


def test_a_second_import_updates_what_differs_and_keeps_other_attributes(
    tmp_path: Path, import_file: Import, engine: Engine
) -> None:
    first, second = tmp_path / "first.csv", tmp_path / "second.csv"
    first.write_text("email,name,plan\na@example.org,A,free\nb@example.org,B,free\n")
    second.write_text("email,plan\na@example.org,pro\nb@example.org,free\nc@example.org,pro\n")

    assert counts(import_file(first)) == {"rows": 2, "added": 2, "joined": 2}
    assert counts(import_file(second)) == {"rows": 3, "added": 1, "updated": 1, "unchanged": 1, "joined": 1}
    assert stored(engine)["a@example.org"] == {"name": "A", "plan": "pro"}
    assert counts(import_file(second)) == {"rows": 3, "unchanged": 3}


def test_a_third_of_bad_addresses_is_reported_with_line_and_reason(
    tmp_path: Path, import_file: Import, engine: Engine
) -> None:
    file = tmp_path / "contacts.csv"
    rows = [f"bad{i}.example.org,x" if i % 10 < 3 else f"good{i}@example.org,x" for i in range(12_000)]
    file.write_text("\n".join(["email,name", *rows, "too,many,fields"]) + "\n")

    summary = import_file(file)

    assert counts(summary) == {"rows": 12_001, "added": 8_400, "rejected": 3_601, "joined": 8_400}
    assert summary["rejects"] == str(tmp_path / "contacts.csv.rejected.csv")
    with Path(summary["rejects"]).open(encoding="utf-8", newline="") as rejects:
        header, *bad = csv.reader(rejects)
    assert header == ["line", "reason", "email", "name"]
    assert bad[0] == ["2", "bad address: An email address must have an @-sign.", "bad0.example.org", "x"]
    assert bad[-1] == ["12002", "3 fields instead of 2", "too", "many", "fields"]
    assert len(bad) == 3_601
    assert len(stored(engine)) == 8_400


def test_who_gets_no_mail_is_left_out_and_told_with_line_and_reason(
    tmp_path: Path, postfleet: Command, import_file: Import, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("POSTFLEET_SECRET_KEY", "k" * 32)
    for tenant in ("acme", "another"):
        postfleet("tenants", "set", tenant)
    postfleet("suppressions", "add", "Gone@example.org", "--tenant", "acme", "--detail", "asked on the phone")
    postfleet("suppressions", "add", "nobody@example.org", "--global")
    postfleet("suppressions", "add", "b@example.org", "--tenant", "another")
    postfleet("suppressions", "erase", "erased@example.org", "--global")
    file = tmp_path / "contacts.csv"
    file.write_text("email,n\na@example.org,1\ngone@example.org,2\nb@example.org,3\nbad,4\nnobody@EXAMPLE.org,5\n")
    erased = tmp_path / "erased.csv"
    erased.write_text("email\nErased@example.org\n")

    summary = import_file(file)

    assert counts(summary) == {"rows": 5, "added": 2, "suppressed": 2, "rejected": 1, "joined": 2}
    assert Path(summary["rejects"]).read_text().splitlines() == [
        "line,reason,email,n",
        "3,suppressed: manual: asked on the phone,gone@example.org,2",
        "5,bad address: An email address must have an @-sign.,bad,4",
        "6,suppressed: manual (from anyone),nobody@EXAMPLE.org,5",
    ]
    assert set(stored(engine)) == {"a@example.org", "b@example.org"}
    assert counts(import_file(erased)) == {"rows": 1, "suppressed": 1}


def test_the_first_of_equal_addresses_counts_within_a_batch_and_across_batches(tmp_path: Path, engine: Engine) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("email,n\nA@example.org,1\na@EXAMPLE.org,2\nb@example.org,3\nc@example.org,4\na@example.org,5\n")

    done = imported(engine, file, batch_rows=2)

    assert (done.loaded.added, done.loaded.duplicates, done.loaded.updated) == (3, 2, 0)
    assert stored(engine)["a@example.org"] == {"n": "1"}


def imported(engine: Engine, file: Path, progress: Progress | None = None, **options: Any) -> Progress:
    with open_csv(file) as csv_file, RejectsFile(file.with_suffix(".bad"), csv_file.header, ",") as rejects:
        return import_contacts(
            engine,
            csv_file,
            understood(csv_file.header),
            rejects,
            tenant="acme",
            list_name="customers",
            suppressed=lambda _connection, _addresses: {},
            progress=progress,
            **options,
        )


def test_an_import_that_lost_its_database_keeps_what_was_done_and_a_rerun_does_the_rest(
    tmp_path: Path, engine: Engine, database_url: str
) -> None:
    file = tmp_path / "contacts.csv"
    file.write_text("\n".join(["email", *(f"c{i}@example.org" for i in range(1_000))]))
    progress = Progress()

    def cut(done: Progress) -> None:
        if done.rows == 400:
            with psycopg.connect(database_url, autocommit=True) as connection:
                connection.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )

    with pytest.raises(StoreUnavailable, match="400 rows are in, run the same command again for the rest"):
        imported(engine, file, progress, batch_rows=100, on_batch=cut)
    assert len(stored(engine)) == 400

    again = imported(engine, file)

    assert (again.loaded.added, again.loaded.unchanged) == (600, 400)
    assert members(engine) == 1_000


def test_two_imports_at_once_do_not_wait_for_each_other_in_a_circle(tmp_path: Path, engine: Engine) -> None:
    addresses = [f"c{i}@example.org" for i in range(2_000)]
    forth, back = tmp_path / "forth.csv", tmp_path / "back.csv"
    forth.write_text("\n".join(["email,n", *(f"{a},1" for a in addresses)]))
    back.write_text("\n".join(["email,n", *(f"{a},2" for a in reversed(addresses))]))

    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(lambda file: imported(engine, file, batch_rows=500), [forth, back]))

    assert sum(d.loaded.added for d in done) == 2_000
    assert members(engine) == 2_000


@pytest.mark.parametrize(
    ("content", "more", "line"),
    [
        pytest.param(b"name,mail\nA,a@example.org\n", (), "no column 'email'; found 'name', 'mail'", id="no address"),
        pytest.param(b"email,n\na@example.org,M\xfcller\n", (), "line 2, byte 23: 0xfc is not utf-8", id="encoding"),
        pytest.param(b"email\na@example.org\n", ("--mapping", "city"), "give COLUMN=ATTRIBUTE", id="mapping"),
        pytest.param(b"email\na@example.org\n", ("--list", "a b"), "list 'a b' is no name", id="list name"),
        pytest.param(b"", (), "the first line is empty", id="empty"),
    ],
)
def test_a_file_that_cannot_work_is_one_line_and_changes_nothing(
    tmp_path: Path, content: bytes, more: tuple[str, ...], line: str, postfleet: Command, engine: Engine
) -> None:
    file = tmp_path / "contacts.csv"
    file.write_bytes(content)

    answer = postfleet("contacts", "import", file, "--tenant", "acme", "--list", "customers", *more)

    assert answer.code == 2
    assert answer.err.startswith("postfleet: ")
    assert line in answer.err
    assert answer.err.count("\n") == 1
    assert stored(engine) == {}
