"""One line on a terminal's stderr that is written again and again; nothing where stderr is no terminal."""

from __future__ import annotations

import sys

import click


class Line:
    """The line. It must be cleared before anything else is printed."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()
        self._shown = 0

    def show(self, text: str) -> None:
        """Replace what it shows."""
        if self._on:
            click.echo(f"\r{text.ljust(self._shown)}", err=True, nl=False)
            self._shown = len(text)

    def share(self, what: str, done: float) -> None:
        """Show how much of something is done, 0 to 1."""
        self.show(f"{what}: {done:.0%}")

    def clear(self) -> None:
        """Leave nothing behind."""
        if self._on:
            self.show("")
            click.echo("\r", err=True, nl=False)
