"""`postfleet tenants`: their shares of the workers, their limits, and their pause switch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from postfleet_workers.commands.output import output_option, show
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.names import checked_name

if TYPE_CHECKING:
    from postfleet_workers.tenants import Limit

COLUMNS = ("name", "weight", "per_minute", "per_day", "paused")
MAX_LIMIT = 2_147_483_647


class LimitOption(click.ParamType[int | str]):
    """A positive count, or `none`."""

    name = "N|none"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int | str:
        """Read it."""
        text = str(value).lower()
        if text == "none":
            return text
        if text.isdecimal() and 0 < int(text) <= MAX_LIMIT:
            return int(text)
        return self.fail(f"{value!r} is neither a positive number nor none", param, ctx)


def limit(value: int | str | None) -> Limit | None:
    """The option as a change: nothing, a count, or lifted."""
    from postfleet_workers.tenants import Limit

    match value:
        case None:
            return None
        case int():
            return Limit(value)
        case _:
            return Limit(None)


@click.group()
def tenants() -> None:
    """See and set tenants' shares and limits."""


@tenants.command("list")
@output_option
@pass_root
def list_(root: Root, output: str) -> None:
    """List the tenants."""
    from postfleet_workers import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = inspection.tenants(connection)
    show(rows, COLUMNS, output)


@tenants.command("set")
@click.argument("name")
@click.option("--weight", type=click.IntRange(1, 1000), help="Share of the workers, beside the other tenants.")
@click.option("--per-minute", type=LimitOption(), help="Emails a minute, or none.")
@click.option("--per-day", type=LimitOption(), help="Emails a day, or none.")
@click.option("--pause/--resume", "paused", default=None, help="Stop or go on with all of the tenant's jobs.")
@output_option
@pass_root
def set_(
    root: Root,
    name: str,
    weight: int | None,
    per_minute: int | str | None,
    per_day: int | str | None,
    paused: bool | None,
    output: str,
) -> None:
    """Make or change a tenant; what is not given stays."""
    from postfleet_workers.store.session import transaction
    from postfleet_workers.tenants import set_tenant

    checked_name("tenant", name)
    with transaction(root.engine) as connection:
        row = set_tenant(
            connection, name, weight=weight, per_minute=limit(per_minute), per_day=limit(per_day), paused=paused
        )
    show([row], COLUMNS, output)
