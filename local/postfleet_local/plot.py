"""Plots as inline SVG. Pure: series in, text out; colours and fonts come from the page's CSS by class."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from html import escape

WIDTH, HEIGHT = 900, 210
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 26
HOVER_COLUMNS = 150


class Kind(StrEnum):
    """How a series is drawn."""

    AREA = "area"
    LINE = "line"
    STEP = "step"
    STEP_AREA = "step-area"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot. `colour` is a CSS class; points are (seconds, value) in order of time; None is a gap."""

    name: str
    kind: Kind
    colour: str
    points: Sequence[tuple[float, float | None]]


@dataclass(frozen=True, slots=True)
class Plot:
    """A titled plot over time; `unit` is written behind values, `whole` allows whole numbers only on the axis."""

    title: str
    subtitle: str
    series: tuple[Series, ...]
    unit: str = ""
    whole: bool = False


def nice_step(span: float, most: int) -> float:
    """The smallest 1, 2 or 5 times a power of ten that splits `span` into at most `most` parts."""
    if span <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most)


def number(value: float) -> str:
    """A number for people."""
    if value and abs(value) < 10 and value != int(value):
        return f"{value:.2f}".rstrip("0").rstrip(".")
    return f"{value:,.0f}"


def clock(seconds: float) -> str:
    """`75` as `1:15`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def draw(plot: Plot, x_max: float) -> str:
    """The plot as an `<svg>` element; all plots of a page share `x_max`, so that they line up."""
    x_max = max(x_max, 1.0)
    highest = max((y for s in plot.series for _, y in s.points if y is not None), default=0.0)
    step = nice_step(max(highest, 1.0 if plot.whole else 0.1), 4)
    step = max(1.0, step) if plot.whole else step
    y_max = step * math.ceil(max(highest, step) / step)

    def x(at: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * at / x_max

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / y_max

    parts = [
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(plot.title)}">',
        *(_gridline(y(step * k), number(step * k)) for k in range(round(y_max / step) + 1)),
        *_time_axis(x, x_max),
        *(_path(series, x, y) for series in plot.series),
        *_hover(plot, x_max),
        "</svg>",
    ]
    return "".join(parts)


def _gridline(at: float, label: str) -> str:
    return (
        f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text class="tick" x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{label}</text>'
    )


def _time_axis(x: Callable[[float], float], x_max: float) -> list[str]:
    step = max(1.0, next((s for s in (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800) if x_max / s <= 10), 3600.0))
    ticks = [step * k for k in range(int(x_max / step) + 1)]
    return [
        f'<text class="tick" x="{x(at):.1f}" y="{HEIGHT - 8}" text-anchor="middle">{clock(at)}</text>' for at in ticks
    ]


def _path(series: Series, x: Callable[[float], float], y: Callable[[float], float]) -> str:
    parts = []
    for run in _runs(series.points):
        coordinates = [(x(at), y(value)) for at, value in run]
        if series.kind in (Kind.STEP, Kind.STEP_AREA):
            coordinates = _stairs(coordinates)
        if len(coordinates) == 1:
            px, py = coordinates[0]
            parts.append(f'<circle class="dot {series.colour}" cx="{px:.1f}" cy="{py:.1f}" r="2"/>')
            continue
        line = "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in coordinates)
        if series.kind in (Kind.AREA, Kind.STEP_AREA):
            base = y(0)
            closed = f"{line}L{coordinates[-1][0]:.1f} {base:.1f}L{coordinates[0][0]:.1f} {base:.1f}Z"
            parts.append(f'<path class="fill {series.colour}" d="{closed}"/>')
        parts.append(f'<path class="line {series.colour}" d="{line}"/>')
    return "".join(parts)


def _runs(points: Sequence[tuple[float, float | None]]) -> list[list[tuple[float, float]]]:
    runs: list[list[tuple[float, float]]] = [[]]
    for at, value in points:
        if value is not None:
            runs[-1].append((at, value))
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _stairs(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    stairs = points[:1]
    for (_, before), (at, value) in itertools.pairwise(points):
        stairs += [(at, before), (at, value)]
    return stairs


def _hover(plot: Plot, x_max: float) -> list[str]:
    columns = min(HOVER_COLUMNS, max(1, math.ceil(x_max)))
    width = (WIDTH - LEFT - RIGHT) / columns
    parts = []
    for k in range(columns):
        at = x_max * (k + 0.5) / columns
        lines = [clock(at)]
        for series in plot.series:
            value = _near(series, at, x_max / columns)
            if value is not None:
                lines.append(f"{series.name}: {number(value)}{plot.unit}")
        if len(lines) > 1:
            parts.append(
                f'<rect class="hover" x="{LEFT + k * width:.1f}" y="{TOP}" width="{width:.2f}" '
                f'height="{HEIGHT - TOP - BOTTOM}"><title>{escape(chr(10).join(lines))}</title></rect>'
            )
    return parts


def _near(series: Series, at: float, reach: float) -> float | None:
    best = min(series.points, key=lambda point: abs(point[0] - at), default=None)
    return best[1] if best is not None and abs(best[0] - at) <= max(reach, 2.0) else None
