"""`postfleet emails`: see emails and their delivery attempts. `postfleet send`: enqueue one."""

from __future__ import annotations

import click

from postfleet_workers.commands.output import Output, as_json, output_option, show, show_one
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import FIRST_QUEUE
from postfleet_workers.mail.outcome import Status

EMAIL_ID = click.IntRange(1, 2**63 - 1)
STATUS = click.Choice([status.value for status in Status])
COLUMNS = ("id", "status", "tenant", "campaign", "node", "recipient", "deferrals", "begun_at", "finished_at", "reply")
ATTEMPT_COLUMNS = (
    "outcome",
    "phase",
    "code",
    "enhanced",
    "scope",
    "started_at",
    "finished_at",
    "worker",
    "fenced",
    "reply",
)


@click.group()
def emails() -> None:
    """See emails and their delivery attempts."""


@emails.command("list")
@click.option("--status", type=STATUS, help="Only emails in this status.")
@click.option("--campaign", help="Only emails of the campaign of this name.")
@click.option("--tenant", help="Only emails of this tenant.")
@click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="At most so many.")
@output_option
@pass_root
def list_(root: Root, status: str | None, campaign: str | None, tenant: str | None, limit: int, output: str) -> None:
    """List emails, newest first."""
    from postfleet_workers.mail import inspection
    from postfleet_workers.store.session import transaction

    wanted = Status(status) if status else None
    with transaction(root.engine) as connection:
        rows = inspection.emails(connection, status=wanted, campaign=campaign, tenant=tenant, limit=limit)
    show(rows, COLUMNS, output)


@emails.command("show")
@click.argument("email_id", metavar="ID", type=EMAIL_ID)
@output_option
@pass_root
def show_(root: Root, email_id: int, output: str) -> None:
    """Show one email with its delivery attempts."""
    from postfleet_workers.mail import inspection
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        row = inspection.email(connection, email_id)
    if row is None:
        raise InputError(f"no email with id {email_id}")
    if output == Output.JSON:
        click.echo(as_json(row))
        return
    attempts = row.pop("attempts")
    show_one(row, output)
    if attempts:
        click.echo()
        show(attempts, ATTEMPT_COLUMNS, output)


def _variables(given: tuple[str, ...]) -> dict[str, str]:
    """`k=v` words as a mapping."""
    variables = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals or not name:
            raise InputError(f"--var {word!r}: give NAME=VALUE")
        variables[name] = value
    return variables


@click.command()
@click.option("--tenant", required=True, help="Whose mail it is.")
@click.option("--to", required=True, help="Recipient, as address or as 'Name <address>'.")
@click.option("--node", required=True, help="Sending node.")
@click.option("--subject", required=True, help="Subject (a template, as the texts are).")
@click.option("--text", required=True, help="Text part.")
@click.option("--html", help="HTML part.")
@click.option("--from", "sender", help="From; default postmaster@ the node's domain.")
@click.option("--reply-to", help="Reply-To.")
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of {{ contact.NAME }}; repeatable."
)
@click.option("--queue", default=FIRST_QUEUE, show_default=True, help="Queue.")
@click.option("--unique-key", help="Refuse it if a mail with this key was enqueued before.")
@output_option
@pass_root
def send(
    root: Root,
    *,
    tenant: str,
    to: str,
    node: str,
    subject: str,
    text: str,
    html: str | None,
    sender: str | None,
    reply_to: str | None,
    variables: tuple[str, ...],
    queue: str,
    unique_key: str | None,
    output: str,
) -> None:
    """Enqueue one email; the workers send it. Prints its id, for `postfleet emails show`."""
    from postfleet_workers.mail.outbox import NewEmail, send_email
    from postfleet_workers.store.session import transaction

    email = NewEmail(
        tenant=tenant,
        to=to,
        node=node,
        subject=subject,
        text=text,
        html=html,
        sender=sender,
        reply_to=reply_to,
        vars=_variables(variables),
        queue=queue,
        unique_key=unique_key,
    )
    with transaction(root.engine) as connection:
        email_id = send_email(connection, email)
    click.echo(as_json({"id": email_id}) if output == Output.JSON else f"email {email_id} is enqueued")
