from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_workers.contacts.reading import FIELD_CHARACTERS, Record, delimiter_of, open_csv
from postfleet_workers.errors import InputError


def records(path: Path, encoding: str | None = None) -> list[Record]:
    with open_csv(path, encoding) as file:
        return list(file)


def written(path: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    file = path / "contacts.csv"
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return file


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read_as_one(tmp_path: Path, encoding: str) -> None:
    with open_csv(written(tmp_path, "email,name\nzoe@example.org,Zoë\n", encoding)) as file:
        assert file.header == ("email", "name")
        assert list(file) == [Record(2, ("zoe@example.org", "Zoë"))]


def test_a_mark_does_not_stick_to_the_first_column(tmp_path: Path) -> None:
    with open_csv(written(tmp_path, "\ufeffemail\n", "utf-16-le"), "utf-16-le") as file:
        assert file.header == ("email",)


@pytest.mark.parametrize(
    ("header", "delimiter"),
    [("email,name", ","), ("email;name", ";"), ("email\tname", "\t"), ("email", ","), ('"a,b,c";email;x', ";")],
)
def test_the_delimiter_is_found_in_the_header(header: str, delimiter: str) -> None:
    assert delimiter_of(header + "\r\n") == delimiter


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_and_blank_lines_do_not_matter_and_lines_are_counted(tmp_path: Path, end: str) -> None:
    file = written(tmp_path, end.join(["email", "a@example.org", "", "b@example.org"]))

    assert records(file) == [Record(2, ("a@example.org",)), Record(4, ("b@example.org",))]


def test_a_quoted_field_may_hold_delimiters_quotes_and_line_breaks(tmp_path: Path) -> None:
    file = written(tmp_path, 'email,note\na@example.org,"two\nlines, ""quoted"""\nb@example.org,x\n')

    assert records(file) == [Record(2, ("a@example.org", 'two\nlines, "quoted"')), Record(4, ("b@example.org", "x"))]


@pytest.mark.parametrize("after", [10, 20_000], ids=["few rows after", "many rows after"])
@pytest.mark.parametrize("more_quotes", [True, False])
def test_a_quote_that_is_never_closed_costs_its_own_row_only(tmp_path: Path, after: int, more_quotes: bool) -> None:
    good = [f'{i}@example.org,"x"' if more_quotes else f"{i}@example.org,x" for i in range(after)]
    file = written(tmp_path, "\n".join(["email,note", 'bad@example.org,"open', *good]))

    first, *rest = records(file)

    assert first.line == 2
    assert first.problem
    assert "malformed row" in first.problem
    assert [r.line for r in rest] == list(range(3, after + 3))
    assert all(r.problem is None for r in rest)


def test_a_field_of_unreasonable_length_is_a_bad_row(tmp_path: Path) -> None:
    file = written(tmp_path, f"email,note\na@example.org,{'x' * (FIELD_CHARACTERS + 1)}\nb@example.org,y\n")

    assert [(r.line, bool(r.problem)) for r in records(file)] == [(2, True), (3, False)]


@pytest.mark.parametrize(
    ("padding", "line", "offset"),
    [pytest.param(0, 3, 25, id="near"), pytest.param(200_000, 200_003, 3_000_025, id="in a later chunk")],
)
def test_a_bad_encoding_is_found_before_anything_is_read(tmp_path: Path, padding: int, line: int, offset: int) -> None:
    content = b"email,name\n" + b"a@example.org,\n" * padding + b"b@example.org\nM\xfcller,x\n"
    file = written(tmp_path, content)

    with pytest.raises(InputError, match=f"line {line}, byte {offset + 1}: 0xfc is not utf-8; .*--encoding") as caught:
        records(file)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


def test_a_bad_encoding_after_a_mark_counts_bytes_from_the_begin_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1, byte 3: 0xff"):
        records(written(tmp_path, b"\xef\xbb\xbf\xff"))


def test_the_encoding_can_be_given(tmp_path: Path) -> None:
    assert records(written(tmp_path, "email,n\na@example.org,Müller\n", "cp1252"), "cp1252")[0].fields[1] == "Müller"


@pytest.mark.parametrize(
    ("content", "encoding", "message"),
    [
        pytest.param(b"", None, "first line is empty", id="empty"),
        pytest.param(b"\n\nemail\n", None, "first line is empty", id="blank first line"),
        pytest.param(b"email\n", "klingon", "no encoding 'klingon'", id="unknown encoding"),
        pytest.param(b'email,"na"me\n', None, "no list of column names", id="malformed header"),
    ],
)
def test_a_file_that_cannot_work_is_one_line(
    tmp_path: Path, content: bytes, encoding: str | None, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        records(written(tmp_path, content), encoding)


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_file_that_cannot_be_opened_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"No such file|Is a directory"):
        records(tmp_path / name)


@given(rows=st.lists(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=8), min_size=2, max_size=4)))
def test_what_the_csv_module_writes_comes_back(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]) -> None:
    file = tmp_path_factory.mktemp("csv") / "rows.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["email", "a"], *rows])

    assert [list(r.fields) for r in records(file) if not r.problem] == rows
