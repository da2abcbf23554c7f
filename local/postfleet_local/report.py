"""The report of a demo: one HTML file that needs nothing else. Pure: a run in, a page out."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from postfleet_local.plot import Kind, Plot, Series, clock, draw, number
from postfleet_local.timeline import Run, Summary

CSS = """
:root { color-scheme: light dark; --page: #f6f7f9; --card: #fff; --ink: #16191d; --soft: #5c6670; --line: #e3e7ec;
  --blue: #2f6fed; --teal: #0f9d83; --amber: #d9822b; --rose: #d2405f; --good: #0b7a56; --bad: #b3263e; }
@media (prefers-color-scheme: dark) { :root { --page: #0f1216; --card: #181c22; --ink: #e9edf2; --soft: #97a3b0;
  --line: #2a313a; --blue: #6ea0ff; --teal: #3ecfb0; --amber: #f0a95b; --rose: #f2748d; --good: #47d19b;
  --bad: #ff8098; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 40px 20px 64px; }
header p { color: var(--soft); margin: 0; max-width: 44em; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 8px; letter-spacing: -.01em; }
h2 { font-size: 16px; margin: 0; }
.brand { font-weight: 600; font-size: 13px; color: var(--soft); letter-spacing: .02em; margin-bottom: 20px; }
.verdict { display: inline-block; margin: 20px 0 24px; padding: 6px 14px; border-radius: 999px; font-weight: 600;
  border: 1px solid currentColor; }
.verdict.good { color: var(--good); } .verdict.bad { color: var(--bad); }
.verdict.mixed { color: var(--amber); }
.tiles { display: grid; grid-template-columns: repeat(4, 1fr); gap: 12px; margin-bottom: 28px; }
@media (max-width: 640px) { .tiles { grid-template-columns: repeat(2, 1fr); } }
.tile, section { background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
.tile { padding: 14px 16px; } .tile b { display: block; font-size: 26px; line-height: 1.2; font-weight: 650;
  font-variant-numeric: tabular-nums; letter-spacing: -.01em; }
.tile span { color: var(--soft); font-size: 13px; }
section { padding: 18px 20px 14px; margin-bottom: 16px; }
section > p { margin: 2px 0 8px; color: var(--soft); font-size: 13px; }
.legend { float: right; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 3px;
  border-radius: 2px; vertical-align: middle; margin: 0 6px 2px 14px; background: var(--c); }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.grid { stroke: var(--line); } .tick { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.line { fill: none; stroke: var(--c); stroke-width: 2; stroke-linejoin: round; } .fill { fill: var(--c); opacity: .16; }
.dot { fill: var(--c); } .hover { fill: transparent; } .hover:hover { fill: var(--soft); opacity: .14; }
.blue { --c: var(--blue); } .teal { --c: var(--teal); } .amber { --c: var(--amber); } .rose { --c: var(--rose); }
table { border-collapse: collapse; width: 100%; font-size: 14px; margin-top: 8px; }
td, th { text-align: left; padding: 6px 12px 6px 0; border-top: 1px solid var(--line); vertical-align: top; }
th { color: var(--soft); font-weight: 500; border-top: 0; }
.num { font-variant-numeric: tabular-nums; white-space: nowrap; }
footer { color: var(--soft); font-size: 13px; margin-top: 24px; }
.scroll { overflow-x: auto; }
"""

COUNTED_AT_THE_SINK = (
    "Counted at the SMTP server and held against the ledger: every mail is delivered, unknown or lost."
)
COUNTED_IN_THE_LEDGER = (
    "Counted in the ledger, by the answers of your SMTP server: every mail is delivered, refused, waiting, unknown or "
    "lost."
)
UNKNOWN = (
    "An unknown mail had been handed over when its worker died, before the server's answer was written down: it may "
    "have arrived, it is listed, and it is never sent again on a guess."
)


def page(run: Run) -> str:
    """The whole page."""
    summary = run.summary
    x_max = max([s.at for s in run.samples] + [float(s.at) for s in run.seconds] + [summary.seconds])
    title = heading(summary)
    counted = COUNTED_IN_THE_LEDGER if run.server else COUNTED_AT_THE_SINK
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>Postfleet demo: {escape(title)}</title><style>{CSS}</style></head><body><main>",
            f'<header><div class="brand">Postfleet</div><h1>{escape(title)}</h1>',
            f"<p>{escape(_lead(summary, run.server))}</p>{_verdict(summary)}</header>",
            f'<div class="tiles">{"".join(_tile(value, label) for value, label in tiles(summary))}</div>',
            *(_section(plot, x_max) for plot in plots(run)),
            _bad(run),
            _changes(run),
            _facts(run),
            f"<footer>{escape(counted)} {escape(UNKNOWN)}</footer>",
            "</main></body></html>",
        ]
    )


def heading(summary: Summary) -> str:
    """The run in one line."""
    if summary.good:
        return "Every mail arrived, once"
    if summary.astray or summary.duplicated:
        return "Not every mail arrived once"
    return "Nothing lost, nothing sent twice, but the server did not take every mail"


def tiles(summary: Summary) -> list[tuple[str, str]]:
    """Value and label of the headline numbers."""
    return [
        (number(summary.delivered), f"delivered of {number(summary.emails)}"),
        (number(summary.astray), "lost"),
        *([(number(summary.refused), "refused by the server")] if summary.refused else []),
        *([(number(summary.waiting), "still waiting")] if summary.waiting else []),
        (number(summary.duplicated), "sent twice"),
        (number(summary.unknown), "unknown"),
        (number(summary.emails_per_minute), "emails a minute"),
        (_seconds(summary.priority_waits.p99), "urgent wait, p99"),
        (_seconds(summary.waits.p50), "wait of all, p50"),
        (f"{summary.replicas_peak}", f"workers at the peak, {summary.replicas_end} at the end"),
    ]


def plots(run: Run) -> list[Plot]:
    """What is drawn, from top to bottom."""
    return [
        Plot(
            "Backlog",
            "Mails that another worker would speed up: ready, in flight, and held back because the pipe is full.",
            (Series("backlog", Kind.AREA, "blue", [(s.at, s.backlog) for s in run.samples]),),
            whole=True,
        ),
        Plot(
            "Workers",
            "What the autoscaler asked for, and what was ready to work.",
            (
                Series("ready", Kind.STEP_AREA, "teal", [(s.at, s.ready) for s in run.samples]),
                Series("desired", Kind.STEP, "amber", [(s.at, s.desired) for s in run.samples]),
            ),
            whole=True,
        ),
        Plot(
            "Emails a second",
            "Accepted by the server.",
            (Series("sent", Kind.AREA, "blue", [(s.at, s.sent) for s in run.seconds]),),
            whole=True,
        ),
        Plot(
            "Wait",
            "Seconds from due to begun, for the mails that began in that second.",
            (
                Series("all, p99", Kind.LINE, "amber", [(s.at, s.wait_p99) for s in run.seconds]),
                Series("all, p50", Kind.LINE, "blue", [(s.at, s.wait_p50) for s in run.seconds]),
                Series("urgent, worst", Kind.LINE, "rose", _known([(s.at, s.urgent_wait) for s in run.seconds])),
            ),
            unit=" s",
        ),
    ]


def _known(points: Sequence[tuple[float, float | None]]) -> list[tuple[float, float | None]]:
    return [point for point in points if point[1] is not None]


def _lead(summary: Summary, server: str) -> str:
    where = server or "a server that takes its time like a provider"
    return (
        f"{_counted(summary.emails, 'email')} in {_duration(summary.seconds)}, over real SMTP, to {where}. "
        f"{_workers(summary.replicas_start, summary.replicas_peak, summary.replicas_end)}"
    )


def _workers(start: int, peak: int, end: int) -> str:
    if start == peak == end:
        return f"{_counted(peak, 'worker')} all along."
    if end == start:
        return f"Workers went from {start or 'zero'} to {peak} and back to {end or 'zero'}, as the backlog asked for."
    return f"Workers went from {start or 'zero'} to {peak}, and {end or 'none'} ran at the end."


def _verdict(summary: Summary) -> str:
    parts = [f"{number(summary.astray)} lost", f"{number(summary.duplicated)} sent twice"]
    parts += [f"{number(summary.refused)} refused by the server"] if summary.refused else []
    parts += [f"{number(summary.waiting)} still waiting"] if summary.waiting else []
    words = " · ".join([*parts, f"{number(summary.unknown)} unknown"])
    kind = "good" if summary.good else "bad" if summary.astray or summary.duplicated else "mixed"
    return f'<div class="verdict {kind}">{words}</div>'


def _tile(value: str, label: str) -> str:
    return f'<div class="tile"><b>{escape(value)}</b><span>{escape(label)}</span></div>'


def _counted(count: int, noun: str) -> str:
    return f"{number(count)} {noun}" + ("" if count == 1 else "s")


def _duration(seconds: float) -> str:
    return _counted(round(seconds), "second") if seconds < 120 else f"{clock(seconds)} minutes"


def _seconds(value: float) -> str:
    return f"{value:.1f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def _section(plot: Plot, x_max: float) -> str:
    legend = ""
    if len(plot.series) > 1:
        entries = (f'<i class="{series.colour}"></i>{escape(series.name)}' for series in plot.series)
        legend = f'<div class="legend">{"".join(entries)}</div>'
    head = f"{legend}<h2>{escape(plot.title)}</h2><p>{escape(plot.subtitle)}</p>"
    return f"<section>{head}{draw(plot, x_max)}</section>"


def _changes(run: Run) -> str:
    if not run.changes:
        return ""
    rows = "".join(
        f'<tr><td class="num">{clock(change.at)}</td><td>{escape(change.pool)}</td>'
        f'<td class="num">{change.before} → {change.after}</td><td>{escape(change.why)}</td></tr>'
        for change in run.changes
    )
    head = "<tr><th>at</th><th>pool</th><th>workers</th><th>why</th></tr>"
    return (
        "<section><h2>Decisions</h2><p>Each change of the number of workers, with the autoscaler's reason.</p>"
        f'<div class="scroll"><table>{head}{rows}</table></div></section>'
    )


def _bad(run: Run) -> str:
    if not run.bad:
        return ""
    rows = "".join(f"<tr><td>{escape(line)}</td></tr>" for line in run.bad)
    return f"<section><h2>What went wrong</h2><table>{rows}</table></section>"


def _facts(run: Run) -> str:
    if not run.facts:
        return ""
    rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in run.facts)
    return f"<section><h2>This run</h2><table>{rows}</table></section>"
