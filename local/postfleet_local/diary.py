"""Where the fleet's own log lines go: a file, so that the terminal belongs to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog


@contextmanager
def keep_diary(file: Path) -> Iterator[None]:
    """Send structlog to `file` while the block runs."""
    with file.open("a", encoding="utf-8") as out:
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.format_exc_info,
                structlog.dev.ConsoleRenderer(colors=False),
            ],
            logger_factory=structlog.WriteLoggerFactory(file=out),
        )
        try:
            yield
        finally:
            structlog.reset_defaults()
