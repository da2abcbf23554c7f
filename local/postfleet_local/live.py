"""How a demo shows itself: a live panel on a terminal, a line every few seconds elsewhere, and a table at the end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from postfleet_local.plot import clock
from postfleet_local.timeline import Run, Sample, sparkline

PLAIN_SECONDS = 5.0
SPARK_WIDTH = 36


@dataclass(frozen=True, slots=True)
class View:
    """What is shown: the samples so far, how many emails there will be, and the last thing the autoscaler said."""

    samples: Sequence[Sample]
    expected: int
    news: str = ""


class Display(Protocol):
    """Shows a run."""

    def say(self, line: str) -> None:
        """A line that stays."""

    def note(self, line: str) -> None:
        """A line of passing interest: a view that shows the last news leaves it out."""

    def show(self, view: View) -> None:
        """The state of things."""

    def close(self) -> None:
        """The end of the live part."""


class Plain:
    """A line now and then, for logs and pipes."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next_at = 0.0

    def say(self, line: str) -> None:
        """Write it."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Write it too."""
        self.say(line)

    def show(self, view: View) -> None:
        """Write one line, unless the last one is recent."""
        sample = view.samples[-1]
        if sample.at >= self._next_at:
            self._next_at = sample.at + PLAIN_SECONDS
            self.say(one_line(sample, view.expected))

    def close(self) -> None:
        """Nothing to undo."""


class Panelled:
    """A panel that is drawn over itself once a second."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def say(self, line: str) -> None:
        """Write it, above the panel if there is one."""
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def note(self, line: str) -> None:
        """Write it while there is no panel."""
        if self._live is None:
            self.say(line)

    def show(self, view: View) -> None:
        """Draw the panel."""
        if self._live is None:
            self._live = Live(console=self._console, auto_refresh=False)
            self._live.start()
        self._live.update(panel(view), refresh=True)

    def close(self) -> None:
        """Leave the last panel standing."""
        if self._live is not None:
            self._live.stop()
            self._live = None


def one_line(sample: Sample, expected: int) -> str:
    """A sample as one line."""
    counts = sample.counts
    return (
        f"{clock(sample.at):>6}  sent {counts.sent:,}/{expected:,}  {sample.emails_per_second:,.0f}/s  "
        f"backlog {sample.backlog:,} (oldest {counts.oldest_seconds:.1f} s)  "
        f"workers {sample.ready}/{sample.desired}  "
        f"deferred {counts.deferred:,}  failed {counts.failed:,}  unknown {counts.unknown:,}"
    )


def panel(view: View) -> RenderableType:
    """The live view."""
    sample, counts = view.samples[-1], view.samples[-1].counts
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", min_width=10)
    grid.add_column(justify="right", min_width=16, style="bold")
    grid.add_column(min_width=SPARK_WIDTH)
    grid.add_row(
        "sent", f"{counts.sent:,} / {view.expected:,}", ProgressBar(max(view.expected, 1), counts.final, SPARK_WIDTH)
    )
    grid.add_row(
        "emails/s", f"{sample.emails_per_second:,.0f}", _spark([s.emails_per_second for s in view.samples], "blue")
    )
    grid.add_row("backlog", f"{sample.backlog:,}", _spark([s.backlog for s in view.samples], "magenta"))
    grid.add_row(
        "workers", f"{sample.ready} of {sample.desired} ready", _spark([s.ready for s in view.samples], "green")
    )
    urgent = "" if counts.urgent_wait_seconds is None else f"{counts.urgent_wait_seconds:.2f} s"
    grid.add_row("waits", f"{counts.oldest_seconds:.1f} s oldest", Text(f"urgent mail {urgent or '-'}", style="dim"))
    ends = Text(f"deferred {counts.deferred:,}   failed {counts.failed:,}   ", style="dim")
    ends.append(f"unknown {counts.unknown:,}", style="yellow" if counts.unknown else "dim")
    title = Text.assemble(("Postfleet demo", "bold"), f"  {clock(sample.at)}")
    return Panel(
        Group(grid, ends, Text(view.news, style="dim italic", overflow="ellipsis", no_wrap=True)),
        title=title, title_align="left", box=box.ROUNDED, border_style="dim", padding=(0, 1), width=78,
    )  # fmt: skip


def summary_table(run: Run) -> Table:
    """The end of a demo, as a table."""
    summary = run.summary
    table = Table(box=box.SIMPLE_HEAD, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(justify="right")
    rows: list[tuple[str, str | Text]] = [
        ("emails", f"{summary.emails:,}"),
        ("delivered", f"{summary.delivered:,}"),
        ("lost", _flagged(summary.astray, "red")),
        *([("refused by the server", _flagged(summary.refused, "yellow"))] if summary.refused else []),
        *([("still waiting", _flagged(summary.waiting, "yellow"))] if summary.waiting else []),
        ("sent twice", _flagged(summary.duplicated, "red")),
        ("unknown", _flagged(summary.unknown, "yellow")),
        ("seconds", f"{summary.seconds:,.1f}"),
        ("emails a minute", f"{summary.emails_per_minute:,.0f}"),
        ("wait, p50 / p99", f"{summary.waits.p50:.1f} s / {summary.waits.p99:.1f} s"),
        ("urgent wait, p50 / p99", f"{summary.priority_waits.p50:.2f} s / {summary.priority_waits.p99:.2f} s"),
        ("workers", f"{summary.replicas_start} → {summary.replicas_peak} → {summary.replicas_end}"),
    ]
    for name, value in rows:
        table.add_row(name, value)
    return table


def _flagged(count: int, colour: str) -> Text:
    return Text(f"{count:,}", style=f"bold {colour}" if count else "green")


def _spark(values: Sequence[float], colour: str) -> Text:
    return Text(sparkline(values, SPARK_WIDTH), style=colour)
