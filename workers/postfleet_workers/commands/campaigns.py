"""`postfleet campaigns`: create, start, pause, resume, cancel and watch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from postfleet_workers.commands.output import Output, as_json, output_option, show, show_one
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError

if TYPE_CHECKING:
    from postfleet_workers.campaigns.spec import CampaignSpec

tenant_option = click.option("--tenant", help="Whose campaign; needed where several tenants have one of that name.")
name_argument = click.argument("name")


@click.group()
def campaigns() -> None:
    """Create, start, pause and watch campaigns."""


@campaigns.command()
@click.argument("file", type=click.Path(path_type=Path))
@output_option
@pass_root
def create(root: Root, file: Path, output: str) -> None:
    """Check the campaign of FILE (YAML) and store it as a draft.

    Its list, its sending nodes and its templates are checked now, not at the 5,000th mail. Where it asks for links of
    ours (oneClick, trackOpens, trackClicks), POSTFLEET_PUBLIC_URL and POSTFLEET_SECRET_KEY should be what workers have:
    a warning tells what its mails lack without them.
    """
    from postfleet_workers.campaigns import creation
    from postfleet_workers.campaigns.spec import parse
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.mail.message import attachments
    from postfleet_workers.store.session import transaction

    try:
        spec = parse(read(file))
        warning = without_links(root, spec)
        files = [attachments.read(file.parent / name) for name in spec.attachments]
        with transaction(root.engine) as connection:
            row = status(connection, creation.create(connection, spec, files))
    except InputError as error:
        raise InputError(f"{file}: {error}") from None
    if warning:
        click.echo(f"postfleet: warning: {warning}", err=True)
    said = f"created campaign {spec.name} of {spec.tenant} for {row['total']:,} contacts"
    answer(row, f"{said}; `postfleet campaigns start {spec.name} --tenant {spec.tenant}` sends it", output)


@campaigns.command()
@name_argument
@tenant_option
@output_option
@pass_root
def start(root: Root, name: str, tenant: str | None, output: str) -> None:
    """Start a campaign: one job expands it into mail."""
    from postfleet_workers.campaigns import control
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign = control.find(connection, name, tenant)
        job_id = control.start(connection, campaign)
        row = status(connection, campaign.id)
    answer(row, f"started campaign {name} for {row['total']:,} contacts; job {job_id} expands it", output)


@campaigns.command()
@name_argument
@tenant_option
@output_option
@pass_root
def pause(root: Root, name: str, tenant: str | None, output: str) -> None:
    """Hold what has not begun yet."""
    from postfleet_workers.campaigns import control
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign = control.find(connection, name, tenant)
        changed = control.pause(connection, campaign)
        row = status(connection, campaign.id)
    answer(row, f"campaign {name} {'is paused' if changed else 'was paused already'}", output)


@campaigns.command()
@name_argument
@tenant_option
@output_option
@pass_root
def resume(root: Root, name: str, tenant: str | None, output: str) -> None:
    """Go on with a paused campaign."""
    from postfleet_workers.campaigns import control
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign = control.find(connection, name, tenant)
        changed = control.resume(connection, campaign)
        row = status(connection, campaign.id)
    answer(row, f"campaign {name} {'goes on' if changed else 'was not paused'}", output)


@campaigns.command()
@name_argument
@tenant_option
@output_option
@pass_root
def cancel(root: Root, name: str, tenant: str | None, output: str) -> None:
    """Cancel a campaign for good; mail that is on its way may still arrive."""
    from postfleet_workers.campaigns import control
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign = control.find(connection, name, tenant)
        control.stop(connection, campaign)
    more = True
    while more:  # a transaction per page: a large campaign must not be one long lock
        with transaction(root.engine) as connection:
            more = control.cancel_some(connection, campaign) > 0
    with transaction(root.engine) as connection:
        row = status(connection, campaign.id)
    answer(row, f"campaign {name} is cancelled; {row['counts']['cancelled']:,} emails were not sent", output)


@campaigns.command("status")
@name_argument
@tenant_option
@output_option
@pass_root
def status_(root: Root, name: str, tenant: str | None, output: str) -> None:
    """Show a campaign's state, progress, counts by email status, and how many mails had which answer.

    `opens_machine` and `clicks_machine` count mails that only scanners and proxies looked into.
    """
    from postfleet_workers.campaigns import control
    from postfleet_workers.campaigns.status import status
    from postfleet_workers.mail.events import summary
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        campaign = control.find(connection, name, tenant)
        row = {**status(connection, campaign.id), "events": summary(connection, campaign.id)}
    if output == Output.TABLE:
        counts = {f"  {name}": count for part in ("counts", "events") for name, count in row.pop(part).items() if count}
        row = {**row, "progress": f"{row['progress']:.1%}", **counts}
    show_one(row, output)


@campaigns.command("list")
@click.option("--tenant", help="Only campaigns of this tenant.")
@output_option
@pass_root
def list_(root: Root, tenant: str | None, output: str) -> None:
    """List campaigns, newest first."""
    from postfleet_workers.campaigns.status import statuses
    from postfleet_workers.store.session import transaction

    with transaction(root.engine) as connection:
        rows = statuses(connection, tenant)
    if output == Output.TABLE:
        rows = [{**row, "sent": row["counts"]["sent"], "progress": f"{row['progress']:.1%}"} for row in rows]
    show(rows, ("name", "tenant", "state", "list", "total", "sent", "progress", "started_at"), output)


def without_links(root: Root, spec: CampaignSpec) -> str:
    """What the campaign's mails lack by the settings that are here, in one line; '' when it is nothing.

    Raises:
        InputError: a setting is there and cannot work.
    """
    from postfleet_workers.mail.message.links import links_of

    asked = {
        "oneClick": ("the one-click link to unsubscribe", spec.one_click),
        "trackOpens": ("counted opens", spec.track_opens),
        "trackClicks": ("counted clicks", spec.track_clicks),
    }
    fields = [name for name, (_, wanted) in asked.items() if wanted]
    if not fields or links_of(root.settings.public_url, root.key) is not None:
        return ""
    settings = {"POSTFLEET_PUBLIC_URL": root.settings.public_url, "POSTFLEET_SECRET_KEY": root.key}
    missing = [name for name, value in settings.items() if not value]
    lacks = [asked[name][0] for name in fields]
    return (
        f"{_and(fields)}: {_and(missing)} {'is' if len(missing) == 1 else 'are'} not set here; where workers lack "
        f"{'it' if len(missing) == 1 else 'them'} too, mails go out without {_and(lacks)}; set {_and(missing)} for "
        "workers and `postfleet web` before you start the campaign"
    )


def _and(words: Sequence[str]) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def answer(row: dict[str, Any], sentence: str, output: str) -> None:
    """Say what was done: a sentence, or the campaign's status as JSON."""
    click.echo(as_json(row) if output == Output.JSON else sentence)


def read(file: Path) -> str:
    """The text of a file.

    Raises:
        InputError: it cannot be read, or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(error.strerror or str(error)) from None
    except UnicodeDecodeError as error:
        raise InputError(f"byte {error.start} is not UTF-8; save the file as UTF-8") from None
