"""`postfleet contacts import`: a CSV file onto a tenant's list."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postfleet_workers.clock import monotonic
from postfleet_workers.commands.output import Output, as_json, output_option
from postfleet_workers.commands.progress import progress_bar
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError
from postfleet_workers.names import checked_name

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from postfleet_workers.contacts.importing import Suppressed
    from postfleet_workers.mail.tokens import Key


@click.group()
def contacts() -> None:
    """Import contacts from CSV files."""


@contacts.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--tenant", required=True, help="Tenant that owns the contacts; made if missing.")
@click.option("--list", "list_name", required=True, help="List that they join; made if missing.")
@click.option(
    "--mapping",
    multiple=True,
    metavar="COLUMN=ATTRIBUTE",
    help="What a column becomes: an attribute, 'email', or nothing (COLUMN=). May be given several times.",
)
@click.option("--encoding", help="Encoding of the file; default: its byte order mark, else UTF-8.")
@click.option("--rejects", type=click.Path(path_type=Path, dir_okay=False), help="Default: FILE.rejected.csv.")
@click.option("--quiet", is_flag=True, help="No progress bar and no summary, only errors.")
@output_option
@pass_root
def import_(
    root: Root,
    file: Path,
    tenant: str,
    list_name: str,
    mapping: tuple[str, ...],
    encoding: str | None,
    rejects: Path | None,
    quiet: bool,
    output: str,
) -> None:
    """Import the contacts of FILE (CSV with a header; delimiter , ; or tab) onto a list.

    One column must be called 'email'; the others become attributes in snake_case. Bad rows, and addresses that get no
    mail, go to a file of their own, with line and reason, and do not stop the rest. Running it again is safe.
    """
    from postfleet_workers.contacts.columns import understood
    from postfleet_workers.contacts.importing import Progress, import_contacts
    from postfleet_workers.contacts.reading import open_csv
    from postfleet_workers.contacts.rejects import RejectsFile

    checked_name("tenant", tenant)
    checked_name("list", list_name)
    key = root.key
    progress = Progress()
    started = monotonic()
    with open_csv(file, encoding) as csv_file:
        try:
            columns = understood(csv_file.header, pairs(mapping))
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        rejects = rejects or file.with_name(f"{file.name}.rejected.csv")
        engine = root.engine
        with (
            RejectsFile(rejects, csv_file.header, csv_file.delimiter) as rejects_file,
            progress_bar(file, shown=sys.stderr.isatty() and not quiet) as report,
        ):
            try:
                import_contacts(
                    engine, csv_file, columns, rejects_file,
                    tenant=tenant, list_name=list_name, suppressed=suppressed(tenant, key), progress=progress,
                    on_batch=report,
                )  # fmt: skip
            except KeyboardInterrupt:
                click.echo(f"interrupted: {progress.rows:,} rows are in, run it again for the rest", err=True)
                raise
    summary = {
        "file": str(file),
        "tenant": tenant,
        "list": list_name,
        "rows": progress.rows,
        "added": progress.loaded.added,
        "updated": progress.loaded.updated,
        "unchanged": progress.loaded.unchanged,
        "duplicates": progress.loaded.duplicates,
        "suppressed": progress.suppressed,
        "rejected": progress.rejected,
        "joined": progress.loaded.joined,
        "rejects": str(rejects) if progress.rejected or progress.suppressed else None,
        "seconds": round(monotonic() - started, 3),
    }
    if progress.tenant_is_new:
        click.echo(f"tenant {tenant} is new; `postfleet tenants set {tenant}` sets its limits", err=True)
    if output == Output.JSON:
        click.echo(as_json(summary))
    elif not quiet:
        click.echo(sentence(summary))


def suppressed(tenant: str, key: Key | None) -> Suppressed:
    """Who gets no mailings from the tenant, for an import."""
    from postfleet_workers.mail.suppressions import find

    def among(connection: Connection, addresses: Sequence[str]) -> dict[str, str]:
        mails = [(tenant, address, "campaign") for address in addresses]
        return {mail[1]: str(why) for mail, why in find(connection, mails, key).items()}

    return among


def pairs(mapping: tuple[str, ...]) -> dict[str, str]:
    """`--mapping` as a dictionary.

    Raises:
        InputError: a value without `=`.
    """
    found = {}
    for text in mapping:
        column, equals, attribute = text.partition("=")
        if not equals or not column.strip():
            raise InputError(f"--mapping {text!r}: give COLUMN=ATTRIBUTE")
        found[column.strip()] = attribute.strip()
    return found


def sentence(summary: dict[str, Any]) -> str:
    """The summary for people."""
    names = ("added", "updated", "unchanged", "duplicates", "suppressed", "rejected")
    counts = ", ".join(f"{summary[name]:,} {name}" for name in names)
    where = f"; see {summary['rejects']}" if summary["rejects"] else ""
    return f"{summary['rows']:,} rows to list {summary['list']} of {summary['tenant']}: {counts}{where}"
