"""The file of rejected rows: line, reason and the row as it was, so that it can be mended and imported again."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from postfleet_workers.contacts.intake import Reject
from postfleet_workers.errors import InputError


class RejectsFile:
    """A CSV file that comes into being with its first row."""

    def __init__(self, path: Path, header: Sequence[str], delimiter: str) -> None:
        self.path = path
        self.count = 0
        self._header = header
        self._delimiter = delimiter
        self._open = ExitStack()
        self._writer: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def add(self, reject: Reject) -> None:
        """Write one row.

        Raises:
            InputError: the file cannot be written.
        """
        try:
            if self._writer is None:
                file = self._open.enter_context(self.path.open("w", encoding="utf-8", newline=""))
                self._writer = csv.writer(file, delimiter=self._delimiter)
                self._writer.writerow(["line", "reason", *self._header])
            self._writer.writerow([reject.line, reject.reason, *reject.fields])
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}; name another file with --rejects") from None
        self.count += 1
