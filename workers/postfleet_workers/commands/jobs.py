"""`postfleet jobs`: see jobs, and move them by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import click

from postfleet_workers.commands.output import Output, as_json, output_option, show, show_one
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError, PermanentError
from postfleet_workers.states import State

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine

    from postfleet_workers.administration import Moved

    Move = Callable[[Connection, Sequence[int]], list[Moved]]

JOB_ID = click.IntRange(1, 2**63 - 1)
STATE = click.Choice([state.value for state in State])
RETRIABLE = click.Choice([State.DISCARDED.value, State.CANCELLED.value])
COLUMNS = ("id", "type", "queue", "tenant", "state", "attempt", "max_attempts", "run_at", "last_error")
ids_argument = click.argument("ids", type=JOB_ID, nargs=-1)


@click.group()
def jobs() -> None:
    """See, retry, cancel and discard jobs."""


@jobs.command("list")
@click.option("--state", type=STATE, help="Only jobs in this state.")
@click.option("--queue", help="Only jobs of this queue.")
@click.option("--type", "job_type", help="Only jobs of this type.")
@click.option("--tenant", help="Only jobs of this tenant.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many.")
@output_option
@pass_root
def list_(
    root: Root,
    state: str | None,
    queue: str | None,
    job_type: str | None,
    tenant: str | None,
    limit: int,
    output: str,
) -> None:
    """List jobs, newest first."""
    from postfleet_workers import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = inspection.jobs(connection, state=state, queue=queue, job_type=job_type, tenant=tenant, limit=limit)
    show(rows, COLUMNS, output)


@jobs.command("show")
@click.argument("job_id", metavar="ID", type=JOB_ID)
@output_option
@pass_root
def show_(root: Root, job_id: int, output: str) -> None:
    """Show one job with its failed attempts."""
    from postfleet_workers import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        row = inspection.job(connection, job_id)
    if row is None:
        raise InputError(f"no job with id {job_id}")
    if output == Output.JSON:
        click.echo(as_json(row))
        return
    attempts = row.pop("attempts")
    show_one(row, output)
    if attempts:
        click.echo()
        show(attempts, ("attempt", "outcome", "worker", "started_at", "finished_at", "fenced", "error"), output)


@jobs.command()
@output_option
@pass_root
def stats(root: Root, output: str) -> None:
    """Count jobs by queue and state."""
    from postfleet_workers import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = inspection.stats(connection)
    show(rows, ("queue", "state", "count"), output)


@jobs.command()
@ids_argument
@click.option("--state", type=RETRIABLE, help="All jobs in this state.")
@click.option("--queue", help="With --state: only jobs of this queue.")
@output_option
@pass_root
def retry(root: Root, ids: tuple[int, ...], state: str | None, queue: str | None, output: str) -> None:
    """Run discarded or cancelled jobs again, with all their attempts."""
    from postfleet_workers import administration

    if bool(ids) == bool(state):
        raise click.UsageError("give either job ids or --state")
    if queue and not state:
        raise click.UsageError("--queue needs --state")
    if state is None:
        move(root.engine, ids, administration.retry, output)
        return
    moved = retried = 0
    for page in pages(root.engine, State(state), queue):
        retried += sum(one.changed for one in page)
        moved += len(page)
    if output == Output.JSON:
        click.echo(as_json({"found": moved, "retried": retried}))
    else:
        click.echo(f"{retried:,} of {moved:,} {state} jobs are available again")


@jobs.command()
@ids_argument
@output_option
@pass_root
def cancel(root: Root, ids: tuple[int, ...], output: str) -> None:
    """Cancel waiting jobs; ask running ones to stop."""
    from postfleet_workers import administration

    move(root.engine, ids, administration.cancel, output)


@jobs.command()
@ids_argument
@output_option
@pass_root
def discard(root: Root, ids: tuple[int, ...], output: str) -> None:
    """Make waiting jobs dead letters."""
    from postfleet_workers import administration

    move(root.engine, ids, administration.discard, output)


def pages(engine: Engine, state: State, queue: str | None) -> Iterator[list[Moved]]:
    """Retry every job in `state`, a page per transaction."""
    from postfleet_workers import administration
    from postfleet_workers.store.session import transaction

    after = 0
    while True:
        with transaction(engine) as connection:
            ids = administration.find(connection, state, queue, after=after)
            page = administration.retry(connection, ids)
        if not ids:
            return
        yield page
        after = ids[-1]


def move(engine: Engine, ids: Sequence[int], how: Move, output: str) -> None:
    """Move the named jobs in one transaction and show what became of each.

    Raises:
        InputError: no id, or one that is no job's; then nothing is changed.
        PermanentError: some could not be moved.
    """
    from postfleet_workers.store.session import transaction

    if not ids:
        raise InputError("give at least one job id; `postfleet jobs list` shows them")
    with transaction(engine) as connection:
        moved = how(connection, ids)
        if unknown := [one.id for one in moved if one.was is None]:
            raise InputError(f"no job with id {', '.join(map(str, unknown))}; nothing was changed")
    show([{"id": m.id, "was": m.was, "result": m.result} for m in moved], ("id", "was", "result"), output)
    if left := [one for one in moved if not one.changed]:
        raise PermanentError(f"{len(left)} of {len(moved)} jobs not moved: job {left[0].id} {left[0].result}")
