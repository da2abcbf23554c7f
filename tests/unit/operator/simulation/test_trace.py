"""Traces: what is read, and how what cannot be read is told."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from postfleet_operator.errors import InputError
from postfleet_operator.simulation.trace import SHIPPED, Trace, from_counts, load, parse, render

HEAD = "seconds,arrivals\n"


def read(text: str) -> Trace:
    return parse("t.csv", text, "t")


def test_a_trace_ends_with_the_second_of_its_last_row() -> None:
    trace = read(HEAD + "0,3\n\n 7 , 0 \n")
    assert (trace.rows, trace.seconds, trace.jobs) == (((0, 3), (7, 0)), 8, 3)


def test_jobs_of_a_second_arrive_evenly_over_it() -> None:
    assert list(read(HEAD + "2,4\n").times()) == [2.125, 2.375, 2.625, 2.875]


def test_what_fills_no_entry_moves_on_to_the_next_second() -> None:
    trace = read(HEAD + "0,3\n1,3\n2,1\n")
    assert list(trace.times(4)) == [1.5, 2.5]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "t.csv:1: the header is '', give seconds,arrivals", id="empty"),
        pytest.param("0,1\n", "t.csv:1: the header is '0,1', give seconds,arrivals", id="no header"),
        pytest.param(
            "arrivals,seconds\n", "t.csv:1: the header is 'arrivals,seconds', give seconds,arrivals", id="swapped"
        ),
        pytest.param(HEAD, "t.csv: nothing arrives; give at least one line with arrivals above 0", id="no rows"),
        pytest.param(
            HEAD + "5,0\n", "t.csv: nothing arrives; give at least one line with arrivals above 0", id="only zeros"
        ),
        pytest.param(
            HEAD + "0,15000000\n1,15000000\n",
            "t.csv: 30,000,000 jobs are more than 20,000,000; take a shorter piece of it",
            id="too many in all",
        ),
        pytest.param(HEAD + "1\n", "t.csv:2: '1' has 1 fields, give two: seconds,arrivals", id="one field"),
        pytest.param(HEAD + "1,2,3\n", "t.csv:2: '1,2,3' has 3 fields, give two: seconds,arrivals", id="three"),
        pytest.param(HEAD + "1,x\n", "t.csv:2: arrivals is 'x', give a whole number from 0 on", id="no number"),
        pytest.param(HEAD + "1,-2\n", "t.csv:2: arrivals is '-2', give a whole number from 0 on", id="negative"),
        pytest.param(HEAD + "1.5,2\n", "t.csv:2: seconds is '1.5', give a whole number from 0 on", id="a half"),
        pytest.param(HEAD + "1,nan\n", "t.csv:2: arrivals is 'nan', give a whole number from 0 on", id="nan"),
        pytest.param(HEAD + "1,²\n", "t.csv:2: arrivals is '²', give a whole number from 0 on", id="a digit elsewhere"),
        pytest.param(
            HEAD + "1,2\n\n1,2\n",
            "t.csv:4: second 1 does not come after 1; sort the lines, each second once",
            id="twice, counted with empty lines",
        ),
        pytest.param(
            HEAD + "1732000000,2\n",
            "t.csv:2: seconds is 1732000000, more than 2678400; count them from the start of the trace, "
            "which may span 31 days",
            id="epoch seconds",
        ),
        pytest.param(
            HEAD + "1,9999999999999999999\n",
            "t.csv:2: arrivals is 9999999999999999999, more than 1000000000; split it up",
            id="too many",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(text: str, told: str) -> None:
    with pytest.raises(InputError) as caught:
        read(text)
    assert str(caught.value) == told


def test_a_name_that_is_neither_a_file_nor_a_trace(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file and no shipped trace; give a CSV file or one of burst, diurnal"):
        load(str(tmp_path / "brust"))


def test_a_folder_and_a_picture_are_no_traces(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        load(str(tmp_path))
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is not UTF-8"):
        load(str(tmp_path / "a.csv"))


def test_a_spreadsheet_s_byte_order_mark_and_line_ends_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbfseconds,arrivals\r\n0,1\r\n")
    assert load(str(tmp_path / "a.csv")).jobs == 1


@pytest.mark.parametrize("name", SHIPPED)
def test_the_shipped_ones_are_there_and_not_too_big(name: str) -> None:
    trace = load(name)
    assert trace.name == name
    assert 10_000 < trace.jobs < 2_000_000
    assert trace.seconds >= 3000


def test_history_keeps_its_quiet_end() -> None:
    trace = from_counts("email", {3: 2}, 60)
    assert (trace.seconds, trace.jobs) == (60, 2)
    with pytest.raises(InputError, match="no job arrived in that time"):
        from_counts("email", {}, 60)


@given(st.dictionaries(st.integers(0, 500), st.integers(1, 40), min_size=1, max_size=50), st.integers(1, 9))
def test_what_is_rendered_reads_the_same_and_no_job_is_lost(counts: dict[int, int], grain: int) -> None:
    rows = sorted(counts.items())
    trace = read(render(rows))
    assert trace.rows == tuple(rows)
    times = trace.times(grain)
    assert len(times) == -(-trace.jobs // grain)
    assert list(times) == sorted(times)
    assert 0 <= times[0] <= times[-1] < trace.seconds
