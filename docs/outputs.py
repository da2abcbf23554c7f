"""Runs the simulations that pages show and writes what they print, and draw, into the pages: `python docs/outputs.py`.

A shown run is a shell block with one `postfleet-operator simulate` command and, right below it, a text block with its
output. It takes about two minutes. `tests/contract/test_docs.py` holds that no output was forgotten.
"""

from __future__ import annotations

import os
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

import click
from click.testing import CliRunner

from postfleet_operator.cli import cli

DOCS = Path(__file__).parent
ROOT = DOCS.parent
RUN = re.compile(
    r"^```sh\n(?P<command>postfleet-operator simulate [^\n]+)\n```\n\n```text\n(?P<output>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Shown:
    """A command and what the page says that it prints."""

    command: str
    output: str

    @property
    def plot(self) -> str:
        """The picture that it draws, from the repository's root; empty if it draws none."""
        words = shlex.split(self.command)
        return words[words.index("--plot") + 1] if "--plot" in words else ""


def shown(text: str) -> list[Shown]:
    """The runs that a page shows."""
    return [Shown(found["command"], found["output"]) for found in RUN.finditer(text)]


def run(command: str) -> str:
    """What a command prints, at the repository's root."""
    os.chdir(ROOT)
    return CliRunner().invoke(cli, shlex.split(command)[1:], catch_exceptions=False).stdout


def main() -> None:
    """Run them all."""
    for page in sorted(DOCS.glob("*.md")):
        text = page.read_text(encoding="utf-8")
        for each in shown(text):
            click.echo(each.command)
            text = text.replace(
                f"{each.command}\n```\n\n```text\n{each.output}", f"{each.command}\n```\n\n```text\n{run(each.command)}"
            )
        page.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
