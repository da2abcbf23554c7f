"""`postfleet emails`: see emails, who got what and what receivers say; settle unknown ones."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from postfleet_workers.commands.moments import MOMENT, Moment, as_time
from postfleet_workers.commands.output import Output, as_json, cell, output_option, show, show_one
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError, PermanentError
from postfleet_workers.mail.replies.outcome import Status

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from postfleet_workers.mail.unknown import Resolution, Resolved

EMAIL_ID = click.IntRange(1, 2**63 - 1)
STATUS = click.Choice([status.value for status in Status])
SCOPE = click.Choice(["recipient", "message", "source", "destination"])
COLUMNS = ("id", "status", "tenant", "campaign", "node", "recipient", "deferrals", "begun_at", "finished_at", "reply")
ATTEMPT_COLUMNS = (
    "outcome", "phase", "site", "host", "code", "enhanced", "scope", "rule", "seconds", "finished_at", "worker",
    "fenced", "reply",
)  # fmt: skip
EVENT_COLUMNS = ("at", "kind", "machine", "url", "detail")
REPLY_COLUMNS = ("count", "site", "phase", "code", "enhanced", "scope", "rule", "reply", "email_id")
CSV = "csv"
campaign_option = click.option("--campaign", required=True, metavar="NAME", help="The campaign.")
tenant_option = click.option("--tenant", help="Whose campaign; needed where several tenants have one of that name.")


@click.group()
def emails() -> None:
    """See emails and what became of them; settle unknown ones.

    An email is queued (it waits for its time, a worker or a limit), sending or deferred (put off; it is tried again),
    and in the end sent (the server took it), bounced (refused for good), failed (it could not be made, or was given
    up), unknown (nobody knows whether it arrived), suppressed (its recipient gets no mail), cancelled or expired.
    """


@emails.command("list")
@click.option("--status", type=STATUS, help="Only emails in this status.")
@click.option("--campaign", help="Only emails of the campaign of this name.")
@click.option("--tenant", help="Only emails of this tenant.")
@click.option("--recipient", metavar="ADDRESS", help="Only emails to this address.")
@click.option(
    "--site", help="Only emails that were tried at this receiving site: gmail, outlook, … as `emails show` names it."
)
@click.option(
    "--scope",
    type=SCOPE,
    help="Only emails with a refusal about this: the address, the mail, us (source), their server (destination).",
)
@click.option("--since", type=MOMENT, help="Only emails due since then: 30m, 2h, 7d (ago) or 2026-03-01T12:00 (UTC).")
@click.option("--until", type=MOMENT, help="Only emails due before then, as --since.")
@click.option(
    "--after", type=EMAIL_ID, metavar="ID", help="The next page: emails older than this one, the last that was shown."
)
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many.")
@output_option
@pass_root
def list_(
    root: Root,
    status: str | None,
    campaign: str | None,
    tenant: str | None,
    recipient: str | None,
    site: str | None,
    scope: str | None,
    since: Moment | None,
    until: Moment | None,
    after: int | None,
    limit: int,
    output: str,
) -> None:
    """List emails, newest first.

    All conditions that are given must hold. `reply` is the last answer of a server, or why there was none;
    `postfleet emails show ID` tells the rest, `--output json` has more columns.
    """
    from postfleet_workers.mail import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        question = inspection.Question(
            status=Status(status) if status else None,
            campaign=campaign,
            tenant=tenant,
            recipient=recipient,
            site=site,
            scope=scope,
            since=None if since is None else as_time(connection, since),
            until=None if until is None else as_time(connection, until),
            after=after,
        )
        rows = inspection.emails(connection, question, limit=limit)
    show(rows, COLUMNS, output)


@emails.command("show")
@click.argument("email_id", metavar="ID", type=EMAIL_ID)
@output_option
@pass_root
def show_(root: Root, email_id: int, output: str) -> None:
    """Show all that is known of one email.

    After the email and its job's state: each attempt, with how far it came (phase), where (site, host), the server's
    code and reply, what a refusal was about (scope) and the rule that says so; `fenced` marks one by a worker that had
    lost the job meanwhile. Then what came back: opens, clicks, bounces, complaints; `machine` marks what no person did.
    """
    from postfleet_workers.mail import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        row = inspection.email(connection, email_id)
    if row is None:
        raise InputError(f"no email with id {email_id}")
    if output == Output.JSON:
        click.echo(as_json(row))
        return
    parts = ((row.pop("attempts"), ATTEMPT_COLUMNS), (row.pop("events"), EVENT_COLUMNS))
    show_one(row, output)
    for rows, columns in parts:
        if rows:
            click.echo()
            show(rows, columns, output)


@emails.command()
@campaign_option
@tenant_option
@click.option("--recipients", is_flag=True, help="Every recipient, with status and reply, instead of the counts.")
@click.option(
    "--output",
    type=click.Choice(["table", "json", CSV]),
    default=Output.TABLE.value,
    show_default=True,
    help="How to print.",
)
@pass_root
def who(root: Root, campaign: str, tenant: str | None, recipients: bool, output: str) -> None:
    """Tell who got a campaign, who did not, and why.

    Counts by status and reason, each with an example; with --recipients every recipient. That is printed as it is read,
    however many there are, as CSV or JSON; a table is made of all at once.
    """
    from postfleet_workers.campaigns import control
    from postfleet_workers.mail import recipients as fates
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign_id = control.find(connection, campaign, tenant).id
        summary = [] if recipients else fates.summary(connection, campaign_id)
    if recipients:
        _stream(fates.each(root.engine, campaign_id), fates.COLUMNS, output)
    elif output == CSV:
        _stream(summary, ("status", "reason", "emails", "example"), output)
    else:
        show(summary, ("emails", "status", "reason", "example"), output)


@emails.command()
@click.option("--unmatched", is_flag=True, help="Only replies that no rule knows, which count by their code alone.")
@click.option(
    "--since",
    type=MOMENT,
    default="1d",
    show_default=True,
    help="Since then: 30m, 2h, 7d (ago) or 2026-03-01T12:00 (UTC).",
)
@click.option("--node", help="Only to mail of this sending node.")
@click.option("--site", help="Only of this receiving site: gmail, outlook, …")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many.")
@output_option
@pass_root
def replies(
    root: Root, unmatched: bool, since: Moment, node: str | None, site: str | None, limit: int, output: str
) -> None:
    """List what receivers refused, the most frequent first.

    Replies that differ in addresses and numbers alone count together; `email_id` is one of them, for
    `postfleet emails show`. `scope` is what it was about, `rule` what says so: empty where no rule knows the reply.
    """
    from postfleet_workers.mail.replies.report import refusals
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = refusals(connection, as_time(connection, since), unmatched=unmatched, node=node, site=site)
    show(rows[:limit], REPLY_COLUMNS, output)


@emails.command()
@click.argument("ids", metavar="[ID]...", type=EMAIL_ID, nargs=-1)
@click.option(
    "--as",
    "resolution",
    type=click.Choice(["sent", "bounced", "failed", "resend"]),
    required=True,
    help="What became of them; resend: nobody knows, send them again.",
)
@click.option("--campaign", metavar="NAME", help="With --all: the unknown emails of this campaign.")
@tenant_option
@click.option("--all", "every", is_flag=True, help="With --campaign: all that are unknown now.")
@click.option("--note", default="", help="Why, for whoever looks at the email later.")
@output_option
@pass_root
def resolve(
    root: Root,
    ids: tuple[int, ...],
    resolution: str,
    campaign: str | None,
    tenant: str | None,
    every: bool,
    note: str,
    output: str,
) -> None:
    """Settle emails of which nobody knows whether they arrived.

    Give ids, or --campaign NAME --all. Look for their Message-IDs (`postfleet emails show ID`) in the log of the server
    that they went to, then say what it says; resend sends them again, with the same Message-ID. An email that is not
    unknown is left as it is; where that is something else than you say, the exit code is 1.
    """
    from postfleet_workers.mail import unknown
    from postfleet_workers.store.session import transaction

    if bool(ids) == bool(campaign):
        raise click.UsageError("give either email ids or --campaign NAME --all")
    if every != bool(campaign):
        raise click.UsageError("--campaign and --all go together")
    how = unknown.Resolution(resolution)
    if campaign is not None:
        _resolve_all(root, campaign, tenant, how, note, output)
        return
    with transaction(root.engine) as connection:
        resolved = unknown.resolve(connection, ids, how, note)
        if missing := [one.id for one in resolved if one.was is None]:
            raise InputError(f"no email with id {', '.join(map(str, missing))}; nothing was changed")
    show([{"id": r.id, "was": r.was, "result": r.result} for r in resolved], ("id", "was", "result"), output)
    if left := [one for one in resolved if not one.agrees]:
        raise PermanentError(f"{len(left)} of {len(resolved)} emails not resolved: email {left[0].id} {left[0].result}")


def _resolve_all(root: Root, campaign: str, tenant: str | None, how: Resolution, note: str, output: str) -> None:
    """A page per transaction; what becomes unknown meanwhile under an id that was passed waits for the next time."""
    from postfleet_workers.campaigns import control
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign_id = control.find(connection, campaign, tenant).id
    after, found, changed = 0, 0, 0
    while True:
        with transaction(root.engine) as connection:
            page = _resolve_page(connection, campaign_id, after, how, note)
        if not page:
            break
        after = page[-1].id
        found += len(page)
        changed += sum(one.changed for one in page)
    if output == Output.JSON:
        click.echo(as_json({"found": found, "changed": changed}))
    else:
        click.echo(f"{changed:,} of {found:,} unknown emails of {campaign}: {how}")


def _resolve_page(
    connection: Connection, campaign_id: int, after: int, how: Resolution, note: str
) -> Sequence[Resolved]:
    from postfleet_workers.mail import unknown

    ids = unknown.find(connection, campaign_id, after=after)
    return unknown.resolve(connection, ids, how, note) if ids else []


def _stream(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], output: str) -> None:
    """Print rows as they come, so that a million recipients need no memory; as a table, all at once."""
    match output:
        case "csv":
            writer = csv.writer(sys.stdout, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_safe(cell(row[column])) for column in columns] for row in rows)
        case Output.JSON:
            click.echo("[", nl=False)
            for number, row in enumerate(rows):
                click.echo(("" if number == 0 else ", ") + as_json(dict(row)), nl=False)
            click.echo("]")
        case _:
            show(rows, columns, output)


def _safe(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
