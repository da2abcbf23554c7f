"""`postfleet suppressions`: who gets no mail, from a tenant or from anyone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from postfleet_workers.commands.output import Output, as_json, output_option, show, show_one
from postfleet_workers.commands.progress import progress_bar
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError
from postfleet_workers.names import checked_name

if TYPE_CHECKING:
    from sqlalchemy import Engine

COLUMNS = ("tenant", "address", "hash", "reason", "detail", "email_id", "created_at")
REASONS = ("unsubscribe", "hard_bounce", "complaint", "manual", "erasure")
CLASSES = ("transactional", "campaign", "warmup")
NO_KEY = "POSTFLEET_SECRET_KEY is not set; give the one that the workers have, as erased addresses are known by it"
F = TypeVar("F", bound=Callable[..., Any])


@click.group()
def suppressions() -> None:
    """See and change who gets no mail, from one tenant or from anyone.

    Entries come by themselves of unsubscribing, hard bounces (the address is none) and complaints. Each stops all mail
    to the address but one: who unsubscribed still gets single mail, such as a password reset.
    """


def whose_options(function: F) -> F:
    """Give a command `--tenant NAME` and `--global`; both arrive as keywords."""
    everyone = click.option("--global", "everyone", is_flag=True, help="Entries that hold for every tenant.")
    return click.option("--tenant", help="Entries of this tenant.")(everyone(function))


def whose(tenant: str | None, everyone: bool) -> str:
    """The tenant whose entries are meant, '' for everyone's.

    Raises:
        InputError: neither was given, or both.
    """
    if (tenant is None) != everyone:
        raise InputError("give either --tenant NAME or --global")
    return "" if tenant is None else checked_name("tenant", tenant)


def known(engine: Engine, owner: str) -> str:
    """`owner`, if it is everyone or a tenant: an entry of one that nobody has would keep no mail back.

    Raises:
        InputError: there is no such tenant.
    """
    from postfleet_workers import tenants
    from postfleet_workers.store.session import transaction

    if owner:
        with transaction(engine) as connection:
            tenants.require(connection, owner)
    return owner


def compared(address: str) -> str:
    """An address as it is compared.

    Raises:
        InputError: it is none.
    """
    from postfleet_workers.mail.suppressions import compared

    try:
        return compared(address)
    except InputError as error:
        raise InputError(f"{address[:100]!r}: {error}") from None


@suppressions.command("list")
@whose_options
@click.option("--reason", type=click.Choice(REASONS), help="Only entries for this reason.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many.")
@output_option
@pass_root
def list_(root: Root, tenant: str | None, everyone: bool, reason: str | None, limit: int, output: str) -> None:
    """List entries, newest first.

    Of one tenant, those for everyone (--global), or all. Of erased addresses only `hash` is there; `email_id` is the
    email that bounced or was complained of.
    """
    from postfleet_workers.mail import suppressions
    from postfleet_workers.store.session import transaction

    wanted = whose(tenant, everyone) if tenant or everyone else None
    with transaction(root.engine) as connection:
        rows = suppressions.newest(connection, tenant=wanted, reason=reason, limit=limit)
    show(rows, COLUMNS, output)


@suppressions.command("add")
@click.argument("addresses", metavar="ADDRESS...", nargs=-1, required=True)
@whose_options
@click.option("--detail", help="Why, in your words.")
@output_option
@pass_root
def add(
    root: Root, addresses: tuple[str, ...], tenant: str | None, everyone: bool, detail: str | None, output: str
) -> None:
    """Send no more mail to these addresses (reason: manual).

    Give --tenant NAME or --global. What is there already stays, with the stronger reason; an erased address is known by
    its hash and is not written down again.
    """
    from postfleet_workers.mail.suppressions import Entry, Reason, add
    from postfleet_workers.store.session import transaction

    owner = known(root.engine, whose(tenant, everyone))
    entries = [Entry(owner, compared(address), Reason.MANUAL, detail) for address in addresses]
    with transaction(root.engine) as connection:
        done = add(connection, entries, root.key)
    show_one({"added": done.added, "changed": done.changed, "known": done.known, "erased": done.erased}, output)


@suppressions.command("remove")
@click.argument("address")
@whose_options
@output_option
@pass_root
def remove(root: Root, address: str, tenant: str | None, everyone: bool, output: str) -> None:
    """Let mail go to an address again; prints why it got none.

    Give --tenant NAME or --global: `postfleet suppressions check` tells whose entry it is. Erased addresses are found
    by POSTFLEET_SECRET_KEY. Somebody who unsubscribed or complained should only be removed when they ask for it.
    """
    from postfleet_workers.mail.suppressions import remove
    from postfleet_workers.store.session import transaction

    owner, form = whose(tenant, everyone), compared(address)
    known(root.engine, owner)
    with transaction(root.engine) as connection:
        gone = remove(connection, owner, form, root.key)
    if not gone:
        raise InputError(f"{form} is not suppressed for {owner or 'everyone'}; `suppressions check` tells who does it")
    show([{"address": form, "reason": why.reason, "detail": why.detail} for why in gone], ("reason", "detail"), output)


@suppressions.command("check")
@click.argument("address")
@click.option("--tenant", required=True, help="Whose mail it would be.")
@output_option
@pass_root
def check(root: Root, address: str, tenant: str, output: str) -> None:
    """Tell which mail of a tenant an address gets, and why not.

    A row for each class of mail: transactional (single mails), campaign, warmup. `by` is whose entry stops it, the
    tenant's or everyone's.
    """
    from postfleet_workers.mail.suppressions import find
    from postfleet_workers.store.session import transaction

    checked_name("tenant", tenant)
    form = compared(address)
    known(root.engine, tenant)
    with transaction(root.engine) as connection:
        found = find(connection, [(tenant, form, name) for name in CLASSES], root.key)
    rows = []
    for name in CLASSES:
        why = found.get((tenant, form, name))
        rows.append(
            {
                "class": name,
                "sent": why is None,
                "reason": why and why.reason,
                "by": why and ("everyone" if why.everyone else tenant),
                "detail": why and why.detail,
                "since": why and why.since,
            }
        )
    show(rows, ("class", "sent", "reason", "by", "detail", "since"), output)


@suppressions.command("import")
@click.argument("file", type=click.Path(path_type=Path))
@whose_options
@click.option(
    "--reason", type=click.Choice(REASONS), default="manual", show_default=True, help="Reason of rows that name none."
)
@click.option("--encoding", help="Encoding of the file; default: its byte order mark, else UTF-8.")
@click.option(
    "--rejects", type=click.Path(path_type=Path, dir_okay=False), help="Where bad rows go. Default: FILE.rejected.csv."
)
@click.option("--quiet", is_flag=True, help="No progress bar and no summary, only errors.")
@output_option
@pass_root
def import_(
    root: Root,
    *,
    file: Path,
    tenant: str | None,
    everyone: bool,
    reason: str,
    encoding: str | None,
    rejects: Path | None,
    quiet: bool,
    output: str,
) -> None:
    """Suppress the addresses of FILE.

    One per line, or CSV with a column 'address' or 'email'; give --tenant NAME or --global. Columns 'reason' and
    'detail' are taken where there are any; what `suppressions export` wrote is understood. Bad rows go to a file of
    their own, with line and reason, and do not stop the rest. Running it again is safe.
    """
    from postfleet_workers.contacts.reading import open_csv
    from postfleet_workers.contacts.rejects import RejectsFile
    from postfleet_workers.mail.suppression_files import Progress, load, understood
    from postfleet_workers.mail.suppressions import Reason

    owner, key, progress = whose(tenant, everyone), root.key, Progress()
    with open_csv(file, encoding) as csv_file:
        try:
            understood(csv_file.header)
        except InputError as error:
            raise InputError(f"{file}: {error}") from None
        rejects = rejects or file.with_name(f"{file.name}.rejected.csv")
        engine = root.engine
        known(engine, owner)
        with (
            RejectsFile(rejects, csv_file.header, csv_file.delimiter) as rejects_file,
            progress_bar(file, shown=sys.stderr.isatty() and not quiet) as report,
        ):
            try:
                load(
                    engine, csv_file, rejects_file,
                    tenant=owner, reason=Reason(reason), key=key, progress=progress, on_batch=report,
                )  # fmt: skip
            except KeyboardInterrupt:
                click.echo(f"interrupted: {progress.rows:,} rows are in, run it again for the rest", err=True)
                raise
    done = progress.added
    summary = {
        "file": str(file),
        "rows": progress.rows,
        "added": done.added,
        "changed": done.changed,
        "known": done.known,
        "erased": done.erased,
        "rejected": progress.rejected,
        "rejects": str(rejects) if progress.rejected else None,
    }
    if output == Output.JSON:
        click.echo(as_json(summary))
    elif not quiet:
        counts = ", ".join(f"{summary[name]:,} {name}" for name in ("added", "changed", "known", "erased", "rejected"))
        where = f"; see {rejects}" if progress.rejected else ""
        click.echo(f"{progress.rows:,} rows to the suppressions of {owner or 'everyone'}: {counts}{where}")


@suppressions.command("export")
@click.argument("file", type=click.File("w", encoding="utf-8", lazy=True), default="-")
@whose_options
@click.option("--reason", type=click.Choice(REASONS), help="Only entries for this reason.")
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
@pass_root
def export(root: Root, file: Any, tenant: str | None, everyone: bool, reason: str | None, quiet: bool) -> None:
    """Write entries as CSV to FILE, or to the output.

    Of one tenant, those for everyone (--global), or all. `postfleet suppressions import` reads it.
    """
    from postfleet_workers.mail.suppression_files import export

    wanted = whose(tenant, everyone) if tenant or everyone else None
    written = export(root.engine, file, tenant=wanted, reason=reason)
    if not quiet:
        click.echo(f"{written:,} suppressions", err=True)


@suppressions.command("erase")
@click.argument("address")
@whose_options
@output_option
@pass_root
def erase(root: Root, address: str, tenant: str | None, everyone: bool, output: str) -> None:
    """Erase an address; only a keyed hash of it stays.

    What one tenant holds of it (--tenant), or all (--global). Contacts are deleted, mail that has not gone out is
    cancelled, contents of single mails go; the record of what was sent stays without the address. Later imports and
    sends obey the hash. Needs POSTFLEET_SECRET_KEY. There is no way back.
    """
    from postfleet_workers.mail import erasure
    from postfleet_workers.store.session import transaction

    owner, form, key = whose(tenant, everyone), compared(address), root.key
    if key is None:
        raise InputError(NO_KEY)
    known(root.engine, owner)
    with transaction(root.engine) as connection:
        done = erasure.erase(connection, form, owner or None, key)
    show_one(
        {
            "emails": done.emails,
            "cancelled": done.cancelled,
            "contacts": done.contacts,
            "suppressions": done.suppressions,
        },
        output,
    )
