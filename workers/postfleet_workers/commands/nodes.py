"""`postfleet nodes`: the sending nodes as the workers see them, how they stand, and whose mail another one takes."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from postfleet_workers.commands.output import Output, as_json, output_option, show, show_one
from postfleet_workers.commands.root import Root, pass_root

if TYPE_CHECKING:
    from postfleet_workers.mail.reroute import Plan, Rerouted

    Report = Callable[[int], object]

COLUMNS = (
    "name", "host", "tls", "placement", "limits", "warmup", "slowdowns", "tenants", "paused", "sent_minute",
    "sent_hour", "sent_day",
)  # fmt: skip
SITE_COLUMNS = (
    "site", "per_minute", "per_hour", "per_day", "max_connections", "messages_per_connection", "sent_day",
)  # fmt: skip
SLOWDOWN_COLUMNS = ("site", "action", "value", "until", "rule", "reply")


@click.group()
def nodes() -> None:
    """See the sending nodes, what limits them and what they sent; give their unsent mail to another."""


@nodes.command("list")
@output_option
@pass_root
def list_(root: Root, output: str) -> None:
    """List the sending nodes, with what limits each and what it sent in the last minute, hour and day.

    WARMUP is the day of its plan and how much of the day's cap is used, SLOWDOWNS what receivers' replies have made it
    do.
    """
    from postfleet_workers.mail import standing
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = standing.nodes(connection)
    show(rows if output == Output.JSON else map(in_words, rows), COLUMNS, output)


@nodes.command("show")
@click.argument("name")
@output_option
@pass_root
def show_(root: Root, name: str, output: str) -> None:
    """Show all about one node: what limits it, in all and at each site, its warmup, and what has slowed it down."""
    from postfleet_workers.mail import standing
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        row = standing.node(connection, name)
    if output == Output.JSON:
        show_one(row, output)
        return
    parts = {"sites": SITE_COLUMNS, "slowdowns": SLOWDOWN_COLUMNS}
    show_one({key: value for key, value in in_words(row).items() if key not in parts}, output)
    for part, columns in parts.items():
        if row[part]:
            click.echo(f"\n{part}")
            show(row[part], columns, output)


def in_words(row: Mapping[str, Any]) -> dict[str, Any]:
    """A node's row with its limits, warmup and slow-downs as a table has room for them."""
    plan = row["warmup"]
    return {
        **row,
        "limits": [f"{name} {value}" for name, value in row["limits"].items()],
        "warmup": plan and f"day {plan['day']}: {plan['accepted']:,} of {plan['cap']:,}",
        "slowdowns": [slowdown(each) for each in row["slowdowns"]],
    }


def slowdown(row: Mapping[str, Any]) -> str:
    """`gmail per_minute 10`, `yahoo suspend`."""
    return " ".join(str(row[part]) for part in ("site", "action", "value") if row[part] is not None)


@nodes.command()
@click.argument("old")
@click.argument("new")
@click.option("--tenant", help="Only this tenant's mail.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary.")
@output_option
@pass_root
def reroute(root: Root, old: str, new: str, tenant: str | None, quiet: bool, output: str) -> None:
    """Give the unsent mail of node OLD to node NEW.

    OLD need not exist any more. Mail that is being sent right now stays with OLD: run it again for what comes back.
    """
    from postfleet_workers.mail.reroute import carry_out, plan
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        planned = plan(connection, old, new, tenant)
    with progress_bar(planned, shown=sys.stderr.isatty() and not quiet) as report:
        try:
            done = carry_out(root.engine, planned, report)
        except KeyboardInterrupt:
            click.echo("interrupted: what was moved stays moved, run it again for the rest", err=True)
            raise
    if output == Output.JSON:
        summary = {
            "old": old, "new": new, "tenant": tenant, "moved": done.moved, "sending": done.sending,
            "closed": dict(done.closed), "campaigns": list(done.campaigns),
        }  # fmt: skip
        click.echo(as_json(summary))
    elif not quiet:
        for line in sentences(planned, done):
            click.echo(line)


def sentences(plan: Plan, done: Rerouted) -> Iterator[str]:
    """What was done and what was not, for people."""
    yield f"{counted(done.moved)} moved from {plan.old} to {plan.new}"
    if done.sending:
        yield f"{counted(done.sending)} being sent by {plan.old} right now; run this again for what comes back"
    for tenant, count in done.closed.items():
        yield f"{counted(count)} of tenant {tenant} not moved: {plan.new} is not open to it"
    if done.campaigns:
        yield f"campaigns that may still make mail for {plan.old}: {', '.join(done.campaigns)}"


def counted(mails: int) -> str:
    """`1 mail`, `2,000 mails`."""
    return f"{mails:,} mail{'' if mails == 1 else 's'}"


@contextmanager
def progress_bar(plan: Plan, *, shown: bool) -> Iterator[Report]:
    """A bar over the mails to move, on a terminal; else nothing."""
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"{plan.old} to {plan.new}", total=plan.movable)
        yield lambda moved: bar.update(task, completed=moved)
