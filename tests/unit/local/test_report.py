"""The report page and its plots."""

from __future__ import annotations

import io
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest
from rich.console import Console

from postfleet_local.judging import complaints
from postfleet_local.live import summary_table
from postfleet_local.plot import Kind, Plot, Series, clock, draw, nice_step, number
from postfleet_local.report import page
from postfleet_local.timeline import Change, Counts, Run, Sample, Second, Summary, Waits

RUN = Run(
    summary=Summary(100, 100, 0, 0, 0, 12.0, Waits(1.0, 3.0), Waits(0.1, 0.4), 3, 0),
    samples=tuple(Sample(float(at), 10 * at, 2, 1, Counts()) for at in range(13)),
    seconds=tuple(Second(at, 8, 1.0, 2.0, 0.1 if at % 2 else None) for at in range(13)),
    changes=(Change(1.0, "email", 0, 2, "20 jobs / 10 per worker <= 2"),),
    facts=(("Folder", "/tmp/<x>"),),
)


def svgs(html: str) -> list[ET.Element]:
    return [ET.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", html, re.DOTALL)]


def test_the_page_needs_nothing_but_itself() -> None:
    html = page(RUN)
    assert not re.search(r"<script|<link|<img|src=|url\(|https?:", html)


def test_every_plot_is_well_formed_and_has_a_name() -> None:
    names = [svg.get("aria-label") for svg in svgs(page(RUN))]
    assert names == ["Backlog", "Workers", "Emails a second", "Wait"]


def test_text_is_escaped() -> None:
    html = page(RUN)
    assert "/tmp/&lt;x&gt;" in html
    assert "10 per worker &lt;= 2" in html


def test_a_good_run_and_a_bad_one_say_so() -> None:
    assert "Every mail arrived, once" in page(RUN)
    bad = replace(RUN, summary=replace(RUN.summary, lost=1, delivered=99), bad=("lost: jo@example.org <a@b>",))
    assert "Not every mail arrived once" in page(bad)
    assert "jo@example.org &lt;a@b&gt;" in page(bad)


def test_what_a_server_refused_or_put_off_is_not_called_lost() -> None:
    summary = replace(RUN.summary, delivered=97, lost=3, refused=2, waiting=1)
    html = page(replace(RUN, summary=summary, server="127.0.0.1:2525"))
    assert "Nothing lost, nothing sent twice, but" in html
    assert "0 lost · 0 sent twice · 2 refused by the server · 1 still waiting · 0 unknown" in html
    assert summary.as_json()["lost"] == 3
    assert not summary.good
    shown = shown_table(replace(RUN, summary=summary))
    assert re.search(r"^ *lost +0 *$", shown, re.MULTILINE)
    assert re.search(r"^ *refused by the server +2 *$", shown, re.MULTILINE)
    assert re.search(r"^ *still waiting +1 *$", shown, re.MULTILINE)


def shown_table(run: Run) -> str:
    console = Console(file=io.StringIO(), width=100)
    with console.capture() as capture:
        console.print(summary_table(run))
    return capture.get()


def test_complaints_name_the_lost_before_what_the_server_would_not_take() -> None:
    statuses = {"a": "deferred", "b": "bounced", "c": "queued", "d": "unknown", "e": "sent", "f": "sent"}
    lines = complaints(statuses, dict.fromkeys(statuses, "jo@y"), {"e": 1, "f": 2}, missing=0)
    assert lines == (
        "lost: jo@y <c>, queued in the ledger",
        "sent 2 times: jo@y <f>, sent in the ledger",
        "refused by the server: jo@y <b>",
        "put off by the server, still waiting: jo@y <a>",
    )


def test_the_words_are_of_this_run() -> None:
    html = page(RUN)
    assert "in 12 seconds, over real SMTP, to a server that takes its time like a provider. Workers" in html
    assert "Workers went from zero to 3 and back to zero, as" in html
    assert "Counted at the SMTP server" in html
    kept = replace(RUN.summary, replicas_start=1, replicas_peak=1, replicas_end=1, seconds=1.2)
    html = page(replace(RUN, summary=kept, server="[::1]:25"))
    assert "in 1 second, over real SMTP, to [::1]:25. 1 worker all along." in html
    assert "Counted in the ledger" in html
    left = replace(RUN.summary, replicas_end=2)
    assert "Workers went from zero to 3, and 2 ran at the end." in page(replace(RUN, summary=left))


def test_a_run_without_samples_is_a_page_too() -> None:
    assert len(svgs(page(Run(RUN.summary)))) == 4


def test_points_lie_where_their_values_are() -> None:
    plot = Plot("p", "", (Series("s", Kind.LINE, "blue", [(0.0, 0.0), (10.0, 100.0)]),))
    (path,) = (e for e in ET.fromstring(draw(plot, 10.0)) if e.tag == "path")
    assert path.get("d") == "M52.0 184.0L888.0 12.0"


def test_a_gap_breaks_the_line() -> None:
    plot = Plot("p", "", (Series("s", Kind.LINE, "blue", [(0, 1), (1, 1), (2, None), (3, 1), (4, 1)]),))
    assert len([e for e in ET.fromstring(draw(plot, 4.0)) if e.tag == "path"]) == 2


def test_steps_keep_their_value_until_the_next() -> None:
    plot = Plot("p", "", (Series("s", Kind.STEP, "blue", [(0, 0), (10, 4)]),), whole=True)
    (path,) = (e for e in ET.fromstring(draw(plot, 10.0)) if e.tag == "path")
    assert path.get("d") == "M52.0 184.0L888.0 184.0L888.0 12.0"


@pytest.mark.parametrize(
    ("span", "step"), [(0, 1), (0.35, 0.1), (4, 1), (5, 2), (9_800, 5_000), (100, 50), (21, 10), (1e6, 500_000)]
)
def test_steps_of_an_axis_are_round(span: float, step: float) -> None:
    assert nice_step(span, 4) == pytest.approx(step)


def test_numbers_are_for_people() -> None:
    assert [number(v) for v in (0, 1, 1.25, 0.1, 12.6, 10_040)] == ["0", "1", "1.25", "0.1", "13", "10,040"]
    assert [clock(v) for v in (0, 9.9, 75, 3600)] == ["0:00", "0:09", "1:15", "60:00"]
