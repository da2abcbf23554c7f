"""`postfleet-operator simulate`: replay a trace through the pool's policy, beside KEDA and Knative."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import click
import yaml
from click.core import ParameterSource
from pydantic import ValidationError

from postfleet_operator.commands.amounts import Duration, Number
from postfleet_operator.commands.line import Line
from postfleet_operator.errors import InputError
from postfleet_operator.manifests import load
from postfleet_operator.settings import DatabaseSettings
from postfleet_operator.simulation import policies, report, trace, tune
from postfleet_operator.simulation.fleet import Shape
from postfleet_operator.simulation.replay import Replay, Scene, check_length, replay
from postfleet_operator.spec import JobPool, PoolSpec

DAY = 86_400
MOST_THREADS = 4096
# What a job takes where nobody says and nothing was measured.
SERVICE_SECONDS = 1.0
MONDAY = 4.0 * DAY


@click.command(short_help="Replay arrivals through a pool's policy.")
@click.option(
    "-f",
    "--filename",
    "path",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Manifest with the JobPool whose policy is replayed.",
)
@click.option("--pool", "name", metavar="NAME", help="Which one, if the manifest holds several.")
@click.option(
    "--trace",
    "trace_name",
    metavar="FILE|NAME",
    help=f"What arrives: CSV with the header {trace.HEADER}, or one of {', '.join(trace.SHIPPED)}.",
)
@click.option(
    "--from-database",
    is_flag=True,
    help="What arrived: the history of the pool's queues in PostgreSQL (POSTFLEET_DATABASE_URL).",
)
@click.option(
    "--window",
    type=Duration(trace.LONGEST_SECONDS),
    default="24h",
    show_default=True,
    help="How far back --from-database looks.",
)
@click.option(
    "--begins-at",
    type=click.DateTime(["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]),
    metavar="YYYY-MM-DDTHH:MM",
    help="When a --trace begins, UTC, for the pool's schedules; by default at midnight, Monday 5 January 1970.",
)
@click.option(
    "--service-seconds",
    type=Number(0, DAY, above=True),
    help="How long a job takes; by default what the pool's workers measured with --from-database, else 1.",
)
@click.option(
    "--startup-seconds", type=Number(0, DAY), default=5.0, show_default=True, help="From asking for a replica to Ready."
)
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), help="Threads of a worker process, instead of the pool's."
)
@click.option("--permitted-rate", type=Number(0, 1e6, above=True), help="Jobs per second that limits let begin.")
@click.option(
    "--slo-seconds",
    type=Number(0, DAY, above=True),
    default=5.0,
    show_default=True,
    help="How long a job may wait, in a pool without latencySeconds.",
)
@click.option(
    "--tune",
    "missed",
    type=Number(0, 1),
    metavar="MISS_FRACTION",
    help="Propose the cheapest policy that leaves at most this share of jobs late; 0.01 is 1 %.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the comparison into this SVG file.")
def simulate(
    path: Path,
    name: str | None,
    trace_name: str | None,
    from_database: bool,
    window: int,
    begins_at: datetime | None,
    service_seconds: float | None,
    startup_seconds: float,
    threads: int | None,
    permitted_rate: float | None,
    slo_seconds: float,
    missed: float | None,
    as_json: bool,
    plot: Path | None,
) -> None:
    """Replay arrivals through a pool's policy on a virtual fleet, beside KEDA and Knative with the same replicas.

    Nothing is scaled and nothing is written but the plot. The policy is the operator's own code and learns what a
    worker does as it would in production; --service-seconds only drives the virtual fleet.
    """
    if bool(trace_name) is from_database:
        raise click.UsageError("give either --trace or --from-database")
    option, belongs_to = ("begins_at", "--trace") if from_database else ("window", "--from-database")
    _refuse_idle(option, belongs_to)
    pool = _pool(path, name)
    measured: float | None = None
    if trace_name:
        arrivals = trace.load(trace_name)
        began_at = MONDAY if begins_at is None else begins_at.replace(tzinfo=UTC).timestamp()
    else:
        from postfleet_operator.simulation import history

        url, line = _database_url(), Line()
        line.show("reading PostgreSQL")
        try:
            found = history.read(url, pool, window)
        finally:
            line.clear()
        arrivals, began_at, measured = found.trace, found.began_at, found.service_seconds
    worker = pool.spec.worker
    capacity = worker.capacity if threads is None else threads * worker.processes
    seconds = service_seconds or measured or SERVICE_SECONDS
    scene = policies.scene(pool.spec, arrivals, Shape(capacity, seconds, startup_seconds, permitted_rate), slo_seconds)
    check_length(scene)
    notes = report.notes(pool.spec, scene, assumed=service_seconds is None and measured is None)
    if missed is not None:
        _tune(pool, scene, missed, began_at, notes, as_json)
        return
    replays = _compare(pool.spec, scene, began_at)
    if plot is not None:
        _draw(plot, scene, replays)
    if as_json:
        _print_json({"policies": {policy: run.outcome.as_json() for policy, run in replays.items()}}, scene)
        return
    click.echo(report.heading(scene))
    click.echo()
    click.echo(report.table({policy: run.outcome for policy, run in replays.items()}))
    if notes:
        click.echo()
    for note in notes:
        click.echo(note)


def _refuse_idle(option: str, belongs_to: str) -> None:
    """An option that would change nothing is a mistake."""
    source = click.get_current_context().get_parameter_source(option)
    if source is ParameterSource.COMMANDLINE:
        raise click.UsageError(f"--{option.replace('_', '-')} is for {belongs_to}")


def _compare(spec: PoolSpec, scene: Scene, began_at: float) -> dict[str, Replay]:
    line, replays = Line(), dict[str, Replay]()
    try:
        for policy, make in policies.makers(spec, scene, began_at).items():
            replays[policy] = replay(scene, make(), partial(line.share, policy))
    finally:
        line.clear()
    return replays


def _tune(pool: JobPool, scene: Scene, missed: float, began_at: float, notes: Sequence[str], as_json: bool) -> None:
    line = Line()
    try:
        found = tune.propose(
            pool.spec,
            scene,
            missed,
            began_at,
            lambda number, share, best: line.share(f"policy {number}{f', best so far {best}' if best else ''}", share),
        )
    finally:
        line.clear()
    fields = found.autoscaling.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    fields["target"] = found.autoscaling.target.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    if as_json:
        proposal = {
            "reached": found.reached,
            "autoscaling": fields,
            "outcome": found.outcome.as_json(),
            "before": found.before.as_json(),
        }
        _print_json({"proposal": proposal}, scene)
    else:
        click.echo(f"# {report.heading(scene)}")
        for note in notes:
            click.echo(f"# {note}")
        click.echo(f"# {found.replays} policies replayed; wanted: at most {report.percent(missed)} missed")
        rows = [report.row("now", found.before), report.row("proposed", found.outcome)]
        for text in report.align([report.COLUMNS, *rows]).splitlines():
            click.echo(f"#   {text}")
        click.echo(yaml.safe_dump({"spec": {"autoscaling": fields}}, sort_keys=False), nl=False)
    if not found.reached:
        click.echo(
            f"no policy that was tried misses as few as {report.percent(missed)}: raise maxReplicas, "
            "or shorten the start-up of a worker",
            err=True,
        )
        sys.exit(1)


def _print_json(answer: dict[str, Any], scene: Scene) -> None:
    shape = scene.shape
    about = {
        "trace": {"name": scene.trace.name, "seconds": scene.trace.seconds, "jobs": scene.trace.jobs},
        "fleet": {
            "threads": shape.threads,
            "service_seconds": shape.service_seconds,
            "startup_seconds": shape.startup_seconds,
            "permitted_rate": shape.permitted_rate,
            "min_replicas": scene.least,
            "max_replicas": scene.most,
        },
        "slo_seconds": scene.slo_seconds,
    }
    click.echo(json.dumps(answer | about))


def _draw(file: Path, scene: Scene, replays: dict[str, Replay]) -> None:
    from postfleet_operator.simulation import plot

    try:
        file.write_text(plot.draw(scene, replays), encoding="utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be written: {error.strerror}") from None


def _pool(path: Path, name: str | None) -> JobPool:
    pools = load([path]).pools
    fitting = [pool for pool in pools if name in (None, pool.name, pool.key)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(pool.name for pool in pools)
    if not pools:
        raise InputError(f"{path}: holds no JobPool, give a manifest with one")
    if not fitting:
        raise InputError(f"{path}: holds no JobPool {name}; --pool may be one of {names}")
    raise InputError(f"{path}: holds {len(fitting)} JobPools, choose one with --pool: {names}")


def _database_url() -> str:
    try:
        return DatabaseSettings().database_url
    except ValidationError:
        raise InputError("POSTFLEET_DATABASE_URL: is missing, set it in the environment") from None
