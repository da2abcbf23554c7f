"""Reading a CSV file of any usual make as a stream: BOM, encoding, delimiter, and records with their line numbers.

Memory stays constant whatever the file's size; a quote that is never closed costs one row, not the rest of the file.
"""

from __future__ import annotations

import codecs
import csv
import io
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from postfleet_workers.errors import InputError

DELIMITERS = (",", ";", "\t")
CHUNK_BYTES = 1 << 20
FIELD_CHARACTERS = 16_384
LINE_CHARACTERS = 1 << 20
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16: its mark begins with UTF-16's
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its fields, or why it is none. `line` is the line it begins at, counted from 1."""

    line: int
    fields: tuple[str, ...]
    problem: str | None = None


class _Lines:
    """A file's lines, which can be given back: those that a malformed record took are read again one by one."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._given_back: deque[str] = deque()
        self._taken: list[str] = []
        self.next_line = 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._given_back.popleft() if self._given_back else self._file.readline(LINE_CHARACTERS)
        if not line:
            raise StopIteration
        self._taken.append(line)
        return line

    def keep(self) -> int:
        """The lines taken so far made a record; returns the number of its first line."""
        first = self.next_line
        self.next_line += len(self._taken)
        self._taken.clear()
        return first

    def keep_one(self) -> tuple[int, str]:
        """The lines taken so far made none: keep the first, give the others back; returns its number and text."""
        first, *others = self._taken
        self._given_back.extendleft(reversed(others))
        self._taken = [first]
        return self.keep(), first


class CsvFile:
    """An open CSV file. Iterating gives the records after the header; blank lines are left out."""

    def __init__(self, raw: BinaryIO, encoding: str) -> None:
        self._raw = raw
        # `newline=""`: the csv module wants line ends as they are.
        first = io.TextIOWrapper(raw, encoding=encoding, newline="")
        header = first.readline(LINE_CHARACTERS)
        first.detach()
        raw.seek(0)
        self._text = io.TextIOWrapper(raw, encoding=encoding, newline="")
        if not header.strip():
            raise InputError("the first line is empty; it must name the columns, one of them 'email'")
        self._lines = _Lines(self._text)
        self.delimiter = delimiter_of(header)
        # Strict: a quote that is never closed must not swallow the rows after it.
        self._reader = csv.reader(self._lines, delimiter=self.delimiter, strict=True)
        try:
            # A mark stays where the encoding was given with its byte order (utf-16-le).
            self.header = tuple(title.removeprefix("\ufeff") for title in next(self._reader))
        except csv.Error as error:
            raise InputError(f"the first line is no list of column names: {error}") from None
        self._lines.keep()

    @property
    def bytes_read(self) -> int:
        """How far the file was read, in bytes."""
        return self._raw.tell()

    def __iter__(self) -> Iterator[Record]:
        while True:
            try:
                fields = next(self._reader)
            except StopIteration:
                return
            except csv.Error as error:
                line, text = self._lines.keep_one()
                yield Record(line, (text.rstrip("\r\n"),), f"malformed row: {error}")
            else:
                line = self._lines.keep()
                if fields:
                    yield Record(line, tuple(fields))


def delimiter_of(header: str) -> str:
    """The delimiter that a header line uses: the most frequent of comma, semicolon and tab outside quotes."""
    counts = {d: len(next(csv.reader([header], delimiter=d), [])) for d in DELIMITERS}
    return max(DELIMITERS, key=lambda d: counts[d])


def encoding_of(raw: BinaryIO, wanted: str | None) -> str:
    """The encoding to read with: `wanted`, or what the byte order mark says, or UTF-8.

    Raises:
        InputError: no such encoding.
    """
    start = raw.read(4)
    raw.seek(0)
    marked = next((name for mark, name in _MARKS if start.startswith(mark)), None)
    if wanted is None:
        return marked or "utf-8"
    try:
        name = codecs.lookup(wanted).name
    except LookupError:
        raise InputError(f"no encoding {wanted!r}; usual ones are utf-8, cp1252, latin-1, utf-16") from None
    return "utf-8-sig" if name == "utf-8" else name


def check_encoding(raw: BinaryIO, encoding: str) -> None:
    """Read all of the file once, so that an import never stops in the middle of one that it cannot read.

    Raises:
        InputError: a byte sequence is not of that encoding; says at which line and byte (both from the file's begin).
    """
    encoding = encoding.removesuffix("-sig")
    decoder = codecs.getincrementaldecoder(encoding)()
    fed, lines = 0, 1
    while True:
        chunk = raw.read(CHUNK_BYTES)
        pending = len(decoder.getstate()[0])
        try:
            lines += decoder.decode(chunk, final=not chunk).count("\n")
        except UnicodeDecodeError as error:
            line = lines + error.object[: error.start].decode(encoding, errors="replace").count("\n")
            offset = fed - pending + error.start
            raise InputError(
                f"line {line}, byte {offset}: 0x{error.object[error.start]:02x} is not {encoding}; "
                "save the file as UTF-8 or give --encoding (often cp1252)"
            ) from None
        if not chunk:
            break
        fed += len(chunk)
    raw.seek(0)


@contextmanager
def open_csv(path: Path, encoding: str | None = None) -> Iterator[CsvFile]:
    """Open a CSV file whose every byte is known to be readable.

    Raises:
        InputError: it cannot be opened, is empty, or is not in the encoding; names the file.
    """
    try:
        raw = path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from None
    limit = csv.field_size_limit(FIELD_CHARACTERS)  # one field must not eat the memory
    with raw:
        try:
            chosen = encoding_of(raw, encoding)
            check_encoding(raw, chosen)
            file = CsvFile(raw, chosen)
        except InputError as error:
            raise InputError(f"{path}: {error}") from None
        try:
            yield file
        finally:
            csv.field_size_limit(limit)
