"""Draws the dashboard's panels from a running Prometheus into one SVG file, without a Grafana.

`python benchmarks/panels.py http://127.0.0.1:9090 panels.svg --seconds 300`: rows, titles and expressions are those of
helm/postfleet/files/dashboards/postfleet.json. What Grafana would fill in stands for everything. Pure but for the
queries.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

DASHBOARD = Path(__file__).parents[1] / "helm/postfleet/files/dashboards/postfleet.json"
COLUMN, LINE = 60, 26  # of Grafana's grid: 24 columns
HEAD, FOOT = 24, 34
POINTS = 150
COLOURS = ("#0b7285", "#e8590c", "#7048e8", "#2b8a3e", "#c2255c", "#f08c00", "#1971c2", "#868e96")
STYLE = (
    "text{font:11px system-ui,sans-serif;fill:#343a40}.t{font-weight:600}.row{font-size:15px;font-weight:600}"
    ".s{fill:#868e96}.big{font-size:30px;font-weight:600}.box{fill:#fff;stroke:#dee2e6}.g{stroke:#e9ecef}"
)

Point = tuple[float, float]
Series = tuple[str, list[Point]]


class Source:
    """A Prometheus, and the time that is shown."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url = url
        self.end = time.time()
        self.start = self.end - seconds
        self._step = max(seconds / POINTS, 1.0)

    def series(self, expression: str, legend: str) -> Iterator[Series]:
        """Name and finite values of each series of a panel's expression."""
        expression = expression.replace("$__rate_interval", f"{max(15, round(4 * self._step))}s")
        for name in ("namespace", "pool", "queue", "node"):
            expression = expression.replace(f'"${name}"', '".*"')
        query = {"query": expression, "start": self.start, "end": self.end, "step": self._step}
        address = f"{self._url}/api/v1/query_range?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - the user's own address
            found = json.load(answer)["data"]["result"]
        for one in found:
            name = legend or ", ".join(value for label, value in one["metric"].items() if label != "__name__")
            for label, value in one["metric"].items():
                name = name.replace("{{" + label + "}}", value)
            points = [(float(at), float(value)) for at, value in one["values"]]
            yield name, [point for point in points if math.isfinite(point[1])]


def draw(source: Source) -> str:
    """The whole dashboard."""
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    height = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels) * LINE
    parts = [_panel(panel, source) for panel in panels]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {24 * COLUMN} {height}" width="{24 * COLUMN}" '
        f'height="{height}"><style>{STYLE}</style><rect width="100%" height="100%" fill="#f8f9fa"/>'
        f"{''.join(parts)}</svg>"
    )


def _panel(panel: dict[str, Any], source: Source) -> str:
    place = panel["gridPos"]
    width, height = place["w"] * COLUMN, place["h"] * LINE
    title = escape(panel["title"])
    if panel["type"] == "row":
        inner = f'<text class="row" x="6" y="19">{title}</text>'
    else:
        series = [
            one
            for target in panel["targets"]
            for one in source.series(target["expr"], target["legendFormat"])
            if one[1]
        ]
        unit = panel["fieldConfig"]["defaults"]["unit"]
        match panel["type"]:
            case "stat":
                body = _stat(series, unit, width, height)
            case "table":
                body = _table(series)
            case _:
                body = _lines(series, unit, width, height, source)
        inner = (
            f'<rect class="box" x="3" y="3" width="{width - 6}" height="{height - 6}" rx="3"/>'
            f'<text class="t" x="12" y="20">{title}</text>{body}'
        )
    return f'<g transform="translate({place["x"] * COLUMN},{place["y"] * LINE})">{inner}</g>'


def _stat(series: Sequence[Series], unit: str, width: int, height: int) -> str:
    text = _number(series[0][1][-1][1], unit) if series else "no data"
    return f'<text class="big" x="{width / 2}" y="{height / 2 + 18}" text-anchor="middle">{text}</text>'


def _table(series: Sequence[Series]) -> str:
    return "".join(f'<text x="12" y="{44 + 18 * n}">{escape(name)}</text>' for n, (name, _) in enumerate(series[:8]))


def _lines(series: Sequence[Series], unit: str, width: int, height: int, source: Source) -> str:
    if not series:
        return f'<text class="s" x="{width / 2}" y="{height / 2}" text-anchor="middle">no data</text>'
    left, right, top, bottom = 58, width - 14, HEAD + 8, height - FOOT - 8
    values = [value for _, points in series for _, value in points]
    low, high = min(0.0, *values), max(values)
    high = high if high > low else low + 1
    parts = []
    for share in (0.0, 0.5, 1.0):
        y = bottom - (bottom - top) * share
        parts.append(f'<line class="g" x1="{left}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        label = _number(low + (high - low) * share, unit)
        parts.append(f'<text class="s" x="{left - 5}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    legend = left
    for number, (name, points) in enumerate(series):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(
            f"{left + (right - left) * (at - source.start) / (source.end - source.start):.1f},"
            f"{bottom - (bottom - top) * (value - low) / (high - low):.1f}"
            for at, value in points
        )
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="1.4"/>')
        if legend + 6.2 * len(name) < right:
            parts.append(f'<rect x="{legend}" y="{height - 24}" width="9" height="9" fill="{colour}"/>')
            parts.append(f'<text x="{legend + 13}" y="{height - 16}">{escape(name)}</text>')
            legend += round(26 + 6.2 * len(name))
    return "".join(parts)


def _number(value: float, unit: str) -> str:
    if unit == "percentunit":
        return f"{100 * value:.3g} %"
    if unit == "bytes":
        return f"{value / 2**20:.0f} MiB"
    if unit == "s":
        return f"{value:.3g} s" if value >= 1 or value == 0 else f"{1000 * value:.3g} ms"
    tail = {"short": "", "ops": "/s", "reqps": "/s", "mails/s": "/s"}[unit]
    return (f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}") + tail


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description="Draw the dashboard from a running Prometheus.")
    parser.add_argument("url", metavar="URL")
    parser.add_argument("file", metavar="FILE", type=Path)
    parser.add_argument("--seconds", type=float, default=3600.0, help="how far back")
    given = parser.parse_args()
    given.file.write_text(draw(Source(given.url, given.seconds)), encoding="utf-8")


if __name__ == "__main__":
    main()
