"""The comparison as a picture: one SVG file that needs nothing else. Pure: replays in, text out.

Four plots share the time axis: what arrives, how many replicas each policy asks for, how many jobs have not begun, and
how long they wait.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from postfleet_operator.simulation.replay import Replay, Scene
from postfleet_operator.simulation.report import clock, heading, percent

WIDTH, LEFT, RIGHT = 960, 64, 32
PANELS, PANEL, GAP, HEAD, FOOT = 4, 170, 46, 96, 34
# Time is cut into at most so many columns of whole seconds; each shows its longest wait, so that no peak is lost.
COLUMNS = 480
DAY = 86_400
TICKS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, DAY)
COLOURS = {"postfleet": "#0b7285", "keda_default": "#e8590c", "keda_tuned": "#f2a33a", "kpa": "#7048e8"}
OTHER_COLOUR = "#868e96"
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#343a40}.title{font-size:15px;font-weight:600}.small{fill:#6c757d}"
    ".grid{stroke:#dee2e6}.slo{stroke:#c92a2a;stroke-dasharray:5 4}.line{fill:none;stroke-width:1.6}"
    ".area{fill:#adb5bd;fill-opacity:.55}"
)

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Axes:
    """Where values are in a panel."""

    top: float
    x_max: float
    y_max: float

    def x(self, seconds: float) -> float:
        """From the left."""
        return LEFT + (WIDTH - LEFT - RIGHT) * seconds / self.x_max

    def y(self, value: float) -> float:
        """From the top."""
        return self.top + PANEL * (1 - value / self.y_max)


def draw(scene: Scene, replays: Mapping[str, Replay]) -> str:
    """The comparison of `replays`, by policy, as an SVG document."""
    x_max = float(max(scene.trace.seconds, *(math.ceil(replay.seconds) for replay in replays.values())))
    width = float(math.ceil(x_max / COLUMNS))
    arrivals = _rate(scene.trace.rows, width)
    waits = {name: longest_waits(replay, width) for name, replay in replays.items()}
    panels = [
        _panel(0, "arrivals, jobs/s", x_max, {"": arrivals}, None),
        _panel(
            1,
            "replicas asked for; in the legend: SLO missed, replica hours",
            x_max,
            {name: _stairs(r, x_max) for name, r in replays.items()},
            None,
        ),
        _panel(2, "jobs that have not begun", x_max, {name: backlog(r, width) for name, r in replays.items()}, None),
        _panel(3, "longest wait, seconds, by arrival", x_max, waits, scene.slo_seconds),
    ]
    height = HEAD + PANELS * PANEL + (PANELS - 1) * GAP + FOOT
    return "".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" ',
            f'width="{WIDTH}" height="{height}" role="img" aria-label="{escape(heading(scene))}">',
            f"<style>{STYLE}</style>",
            f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
            f'<text class="title" x="{LEFT}" y="24">{escape(scene.trace.name)}</text>',
            f'<text class="small" x="{LEFT}" y="42">{escape(heading(scene).partition(": ")[2])}</text>',
            *_legend(replays),
            *panels,
            *_time_axis(x_max),
            "</svg>\n",
        ]
    )


def longest_waits(replay: Replay, width: float) -> list[tuple[float, float]]:
    """The longest wait among the jobs that arrived in each column of `width` seconds; no point where none did."""
    found: dict[int, float] = {}
    for arrival, wait in zip(replay.arrivals, replay.waits, strict=True):
        column = int(arrival / width)
        if wait > found.get(column, -1.0):
            found[column] = wait
    return [((column + 0.5) * width, wait) for column, wait in sorted(found.items())]


def backlog(replay: Replay, width: float) -> list[tuple[float, float]]:
    """How many jobs have arrived and not begun, at the end of each column of `width` seconds."""
    ends = [column * width for column in range(math.ceil(replay.seconds / width) + 1)]
    return [
        (at, float(replay.size * (bisect_right(replay.arrivals, at) - bisect_right(replay.starts, at)))) for at in ends
    ]


def tick(span: float, most: int) -> float:
    """The smallest 1, 2 or 5 times a power of ten that splits `span` into at most `most` parts."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most + 1e-9)


def _rate(rows: Sequence[tuple[int, int]], width: float) -> list[tuple[float, float]]:
    found: dict[int, int] = {}
    for second, arrivals in rows:
        found[int(second / width)] = found.get(int(second / width), 0) + arrivals
    last = int(rows[-1][0] / width)
    return [((column + 0.5) * width, found.get(column, 0) / width) for column in range(last + 1)]


def _stairs(replay: Replay, x_max: float) -> list[tuple[float, float]]:
    points: list[tuple[float, float]] = []
    for at, replicas in replay.replicas:
        if points:
            points.append((at, points[-1][1]))
        points.append((at, float(replicas)))
    return [*points, (min(replay.seconds, x_max), points[-1][1])]


def _panel(index: int, title: str, x_max: float, series: Mapping[str, Points], limit: float | None) -> str:
    highest = max((value for points in series.values() for _, value in points), default=0.0)
    highest = max(highest, 1.0, 0.0 if limit is None else 1.5 * limit)
    step = max(tick(highest, 4), 1.0)
    axes = Axes(HEAD + index * (PANEL + GAP), x_max, step * math.ceil(highest / step))
    lines = [f'<text x="{LEFT}" y="{axes.top - 8:.0f}">{escape(title)}</text>']
    for k in range(round(axes.y_max / step) + 1):
        at = axes.y(step * k)
        lines.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        lines.append(f'<text class="small" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{step * k:,.0f}</text>')
    for name, points in series.items():
        path = "M" + "L".join(f"{axes.x(at):.1f} {axes.y(value):.1f}" for at, value in points)
        if name:
            stroke = COLOURS.get(name, OTHER_COLOUR)
            lines.append(f'<path class="line" stroke="{stroke}" d="{path}"><title>{escape(name)}</title></path>')
        else:
            first, last, base = axes.x(points[0][0]), axes.x(points[-1][0]), axes.y(0)
            lines.append(f'<path class="area" d="{path}L{last:.1f} {base:.1f}L{first:.1f} {base:.1f}Z"/>')
    if limit is not None:
        at = axes.y(limit)
        lines.append(
            f'<line class="slo" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}">'
            f"<title>SLO {limit:g} s</title></line>"
        )
    return "".join(lines)


def _legend(replays: Mapping[str, Replay]) -> list[str]:
    parts, width = [], (WIDTH - LEFT - RIGHT) / max(len(replays), 1)
    for k, (name, replay) in enumerate(replays.items()):
        x, outcome = LEFT + k * width, replay.outcome
        words = f"{name}: {percent(outcome.slo_miss_fraction)}, {outcome.replica_hours:,.1f} h"
        parts.append(
            f'<rect x="{x:.0f}" y="50" width="10" height="10" fill="{COLOURS.get(name, OTHER_COLOUR)}"/>'
            f'<text class="small" x="{x + 15:.0f}" y="59" style="font-size:11px">{escape(words)}</text>'
        )
    return parts


def _time_axis(x_max: float) -> list[str]:
    step = next((seconds for seconds in TICKS if x_max / seconds <= 10), math.ceil(x_max / 10 / DAY) * DAY)
    axes, y = Axes(0, x_max, 1), HEAD + PANELS * PANEL + (PANELS - 1) * GAP + 18
    return [
        f'<text class="small" x="{axes.x(at):.1f}" y="{y}" text-anchor="middle">{clock(at)}</text>'
        for at in range(0, int(x_max) + 1, step)
    ]
