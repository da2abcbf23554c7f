"""Draws docs/assets/demo.svg, the picture in the README, from a real run: `python docs/picture.py` (about a minute).

It runs the demo as `make demo` does and keeps a view from the middle of it and the summary at its end, as a terminal
shows them.
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path

import click
from rich.console import Console
from rich.terminal_theme import SVG_EXPORT_THEME
from rich.text import Text

from postfleet_local import demo
from postfleet_local.diary import keep_diary
from postfleet_local.home import Home
from postfleet_local.live import View, panel, summary_table
from postfleet_local.timeline import Run

PICTURE = Path(__file__).parent / "assets" / "demo.svg"
WIDTH = 80
MOMENT = 0.75  # the share of mail that is sent in the picture
# rich's own format loads a font from the network; a picture in a repository must not.
FORMAT = """\
<svg class="rich-terminal" viewBox="0 0 {width} {height}" xmlns="http://www.w3.org/2000/svg">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width; }}
.{unique_id}-title {{ font-size: 18px; font-weight: bold; font-family: ui-sans-serif, system-ui, sans-serif; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal">
<rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/>
</clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""


class Watcher:
    """A display that shows nothing and keeps the views."""

    def __init__(self) -> None:
        self.views: list[View] = []

    def say(self, line: str) -> None:
        """To stderr."""
        click.echo(line, err=True)

    def note(self, line: str) -> None:
        """To stderr too."""
        self.say(line)

    def show(self, view: View) -> None:
        """Keep it; its samples are a list that grows."""
        self.views.append(View(tuple(view.samples), view.expected, view.news))

    def close(self) -> None:
        """Nothing to undo."""


def watched() -> tuple[list[View], Run]:
    """A whole demo: what it showed, and how it ended."""
    watcher = Watcher()
    wishes = demo.Wishes(emails=10_000)
    with tempfile.TemporaryDirectory(prefix="postfleet-picture-") as folder, Home(Path(folder)) as home:
        demo.prepare(home)
        with keep_diary(home.directory / "logs" / "fleet.log"):
            run = demo.conduct(wishes, demo.options_of(wishes), home, watcher)
        home.clean()
    return watcher.views, run


def drawn(views: list[View], run: Run) -> str:
    """The picture."""
    moment = next(view for view in views if view.samples[-1].counts.sent >= MOMENT * view.expected)
    console = Console(
        record=True,
        width=WIDTH,
        file=io.StringIO(),
        force_terminal=True,
        color_system="truecolor",
        legacy_windows=False,
    )
    console.print(Text("$ make demo", style="bold"), panel(moment), summary_table(run))
    return console.export_svg(title="make demo", theme=SVG_EXPORT_THEME, code_format=FORMAT, unique_id="demo")


def main() -> None:
    """Run a demo and draw it."""
    views, run = watched()
    if not run.summary.good:
        sys.exit("the demo lost a mail or sent one twice: no picture of that")
    PICTURE.parent.mkdir(exist_ok=True)
    PICTURE.write_text("\n".join(line.rstrip() for line in drawn(views, run).splitlines()) + "\n", encoding="utf-8")
    click.echo(f"{PICTURE}: {PICTURE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
