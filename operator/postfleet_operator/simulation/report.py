"""The comparison as people read it: a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from postfleet_operator.simulation.replay import Outcome, Scene
from postfleet_operator.spec import PoolSpec

COLUMNS = ("policy", "wait p50", "p95", "p99", "SLO missed", "replica hours", "changes", "most")


def table(outcomes: Mapping[str, Outcome]) -> str:
    """One line per policy, aligned."""
    return align([COLUMNS, *(row(name, outcome) for name, outcome in outcomes.items())])


def row(name: str, outcome: Outcome) -> tuple[str, ...]:
    """A policy's line."""
    return (
        name,
        seconds(outcome.wait_p50_seconds),
        seconds(outcome.wait_p95_seconds),
        seconds(outcome.wait_p99_seconds),
        percent(outcome.slo_miss_fraction),
        f"{outcome.replica_hours:,.2f}",
        f"{outcome.scale_changes:,}",
        f"{outcome.max_replicas:,}",
    )


def heading(scene: Scene) -> str:
    """What is replayed, in one sentence."""
    trace, shape = scene.trace, scene.shape
    limit = "" if shape.permitted_rate is None else f", limits let {shape.permitted_rate:g} jobs/s begin"
    return (
        f"{trace.name}: {trace.jobs:,} jobs in {clock(trace.seconds)}, each to begin within {scene.slo_seconds:g} s; "
        f"{scene.least} to {scene.most} replicas of {shape.threads} threads, a job takes {shape.service_seconds:g} s, "
        f"a start {shape.startup_seconds:g} s{limit}"
    )


def notes(spec: PoolSpec, scene: Scene, *, assumed: bool) -> list[str]:
    """What explains the numbers, a sentence each; `assumed`: nobody said or measured how long a job takes."""
    found = []
    if assumed:
        found.append(
            f"That a job takes {scene.shape.service_seconds:g} s is an assumption, nothing was measured: "
            "say it with --service-seconds."
        )
    if floors := spec.autoscaling.schedules:
        highest = max(floor.min_replicas for floor in floors)
        found.append(
            f"postfleet keeps the floors of spec.autoscaling.schedules, up to {min(highest, scene.most)} replicas, "
            "work or not; the others have none."
        )
    if scene.shape.permitted_rate is not None:
        found.append("Waits count from when the limits let a job begin; what they hold, no policy can speed up.")
    return found


def align(rows: Sequence[Sequence[str]]) -> str:
    """Columns of equal width: the first to the left, numbers to the right."""
    widths = [max(len(line[column]) for line in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in rows
    )


def seconds(value: float) -> str:
    """`0.42 s`, `75 s`."""
    return f"{value:,.2f} s" if value < 10 else f"{value:,.0f} s"


def percent(fraction: float) -> str:
    """Never 0 % or 100 % of what is not exactly that."""
    if 0 < fraction < 0.0001:
        return "<0.01 %"
    if 0.9999 < fraction < 1:
        return ">99.99 %"
    return f"{fraction:.2%}".replace("%", " %")


def clock(whole_seconds: float) -> str:
    """`1:15:00`."""
    minutes, rest = divmod(int(whole_seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"
