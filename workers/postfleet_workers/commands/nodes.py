"""`postfleet nodes`: the sending nodes as the workers see them, and what they sent."""

from __future__ import annotations

import click

from postfleet_workers.commands.output import output_option, show
from postfleet_workers.commands.root import Root, pass_root

COLUMNS = ("name", "host", "tls", "limits", "tenants", "paused", "sent_minute", "sent_hour", "sent_day")


@click.group()
def nodes() -> None:
    """See the sending nodes and what they sent."""


@nodes.command("list")
@output_option
@pass_root
def list_(root: Root, output: str) -> None:
    """List the sending nodes, with what each sent in the last minute, hour and day."""
    from postfleet_workers import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = inspection.nodes(connection)
    show(rows, COLUMNS, output)
