"""How commands show how far they are in a file: a bar on a terminal, nothing elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol


class Reading(Protocol):
    """How far a file was read."""

    rows: int
    bytes_read: int


@contextmanager
def progress_bar(file: Path, *, shown: bool) -> Iterator[Callable[[Reading], None]]:
    """A bar over the file's bytes."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rows]} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(file.name, total=file.stat().st_size, rows="0")
        yield lambda done: bar.update(task, completed=done.bytes_read, rows=f"{done.rows:,}")
