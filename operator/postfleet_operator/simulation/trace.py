"""Traces: how many jobs arrive in which second. CSV with the header `seconds,arrivals`; some come with the package."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path

from postfleet_operator.errors import InputError

HEADER = "seconds,arrivals"
LONGEST_SECONDS = 31 * 86_400
MOST_ARRIVALS = 1_000_000_000
MOST_JOBS = 20_000_000
SHIPPED = ("burst", "diurnal", "ramp", "spiky", "overload")


@dataclass(frozen=True)
class Trace:
    """A trace.

    Attributes:
        name: what to call it.
        seconds: how long it is: the second after the last row ends it.
        rows: (second, arrivals in it), seconds ascending; what is missing is 0.
    """

    name: str
    seconds: int
    rows: tuple[tuple[int, int], ...]

    @cached_property
    def jobs(self) -> int:
        """All arrivals."""
        return sum(arrivals for _, arrivals in self.rows)

    def times(self, grain: int = 1) -> array[float]:
        """When jobs arrive, seconds: those of one second evenly over it. Every `grain` jobs make one entry.

        What does not fill an entry moves on to the next second; the last entry may stand for fewer.
        """
        found, rest = array("d"), 0
        for second, arrivals in self.rows:
            entries, rest = divmod(arrivals + rest, grain)
            found.extend(second + (k + 0.5) / entries for k in range(entries))
        if rest:
            found.append(max(self.seconds - 0.5, found[-1] if found else 0.0))
        return found


def load(given: str) -> Trace:
    """The shipped trace of that name, or a CSV file.

    Raises:
        InputError: one line: file and line, what is wrong, what to do.
    """
    if given in SHIPPED:
        text = resources.files(__package__).joinpath("traces", f"{given}.csv").read_text(encoding="ascii")
        return parse(f"{given}.csv", text, given)
    path = Path(given)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"{given}: no such file and no shipped trace; give a CSV file or one of {', '.join(SHIPPED)}"
        ) from None
    except OSError as error:
        raise InputError(f"{given}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{given}: is not UTF-8 (byte {error.start}); save it as UTF-8") from None
    return parse(given, text, path.stem)


def parse(file: str, text: str, name: str) -> Trace:
    """Read a trace; `file` is how errors call it.

    Raises:
        InputError: one line: file and line, what is wrong, what to do.
    """
    lines = text.splitlines()
    if not lines or _cells(lines[0]) != HEADER.split(","):
        shown = lines[0] if lines else ""
        raise InputError(f"{file}:1: the header is {shown!r:.60}, give {HEADER}")
    rows: list[tuple[int, int]] = []
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        place, cells = f"{file}:{number}", _cells(line)
        if len(cells) != 2:
            raise InputError(f"{place}: {line!r:.60} has {len(cells)} fields, give two: {HEADER}")
        second = _whole(place, "seconds", cells[0], LONGEST_SECONDS)
        arrivals = _whole(place, "arrivals", cells[1], MOST_ARRIVALS)
        if rows and second <= rows[-1][0]:
            raise InputError(
                f"{place}: second {second} does not come after {rows[-1][0]}; sort the lines, each second once"
            )
        rows.append((second, arrivals))
    return _trace(name, file, rows, f"{file}: nothing arrives; give at least one line with arrivals above 0")


def from_counts(name: str, counts: Mapping[int, int], seconds: int) -> Trace:
    """A trace of `seconds` seconds from arrivals by second.

    Raises:
        InputError: nothing arrives.
    """
    rows = [*sorted(counts.items())]
    if rows and rows[-1][0] < seconds - 1:
        rows.append((seconds - 1, 0))
    return _trace(name, name, rows, f"{name}: no job arrived in that time; give a longer --window or other queues")


def render(rows: Iterable[tuple[int, int]]) -> str:
    """As CSV."""
    return "".join([f"{HEADER}\n", *(f"{second},{arrivals}\n" for second, arrivals in rows)])


def _trace(name: str, file: str, rows: list[tuple[int, int]], empty: str) -> Trace:
    if not any(arrivals for _, arrivals in rows):
        raise InputError(empty)
    if (jobs := sum(arrivals for _, arrivals in rows)) > MOST_JOBS:
        raise InputError(f"{file}: {jobs:,} jobs are more than {MOST_JOBS:,}; take a shorter piece of it")
    return Trace(name, rows[-1][0] + 1, tuple(rows))


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.split(",")]


def _whole(place: str, field: str, text: str, most: int) -> int:
    if not (text.isascii() and text.isdigit()):
        raise InputError(f"{place}: {field} is {text!r:.40}, give a whole number from 0 on")
    if len(text) > 15 or int(text) > most:
        hint = "count them from the start of the trace, which may span 31 days" if field == "seconds" else "split it up"
        raise InputError(f"{place}: {field} is {text:.20}, more than {most}; {hint}")
    return int(text)
