"""`postfleet send`: enqueue one email."""

from __future__ import annotations

from pathlib import Path

import click

from postfleet_workers.commands.output import Output, as_json, output_option
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError
from postfleet_workers.jobs import FIRST_QUEUE


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
@click.option("--node", default="", help="Sending node; by default one that is open to the tenant, by capacity.")
@click.option("--subject", required=True, help="Subject (a template, as the texts are).")
@click.option("--text", default="", help="Text part; made of the HTML when there is only that.")
@click.option("--html", help="HTML part; cid:NAME in it shows the file of that name that --attach names.")
@click.option(
    "--attach",
    "files",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Attach this file; repeatable.",
)
@click.option("--from", "sender", help="From; default postmaster@ the node's domain.")
@click.option("--reply-to", help="Reply-To.")
@click.option(
    "--var", "variables", multiple=True, metavar="NAME=VALUE", help="Value of {{ contact.NAME }}; repeatable."
)
@click.option("--queue", default=FIRST_QUEUE, show_default=True, help="Queue.")
@click.option("--unique-key", help="Refuse it if a mail with this key was enqueued before.")
@click.option(
    "--on-unknown",
    type=click.Choice(["hold", "resend"]),
    default="hold",
    show_default=True,
    help="When nobody knows whether it was accepted: hold it, or send it again, once.",
)
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
    files: tuple[Path, ...],
    sender: str | None,
    reply_to: str | None,
    variables: tuple[str, ...],
    queue: str,
    unique_key: str | None,
    on_unknown: str,
    output: str,
) -> None:
    """Enqueue one email; the workers send it. Prints its id, for `postfleet emails show`."""
    from postfleet_workers.mail.message.attachments import read
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
        on_unknown=on_unknown,
        attachments=[read(file) for file in files],
    )
    with transaction(root.engine) as connection:
        email_id = send_email(connection, email)
    click.echo(as_json({"id": email_id}) if output == Output.JSON else f"email {email_id} is enqueued")
