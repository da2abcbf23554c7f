"""`postfleet web`."""

from __future__ import annotations

import click

from postfleet_workers import logs
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError


@click.command()
@pass_root
def web(root: Root) -> int:
    """Serve what mails link to: unsubscribing, clicks and opens. Runs until SIGTERM.

    Listens at POSTFLEET_WEB_HOST and POSTFLEET_WEB_PORT, in plain HTTP, for a proxy with TLS that answers at
    POSTFLEET_PUBLIC_URL. Start as many as you like. Needs PostgreSQL and POSTFLEET_SECRET_KEY, the one that workers
    have; Redis it does not need.
    """
    from postfleet_workers.mail.message.links import links_of
    from postfleet_workers.web.server import serve

    settings, key = root.settings, root.key
    if key is None:
        raise InputError("POSTFLEET_SECRET_KEY is not set; give the one that workers sign links with")
    links_of(settings.public_url, key)  # a URL that is none is told here too, not only by the workers
    logs.configure(settings.log_format, settings.log_level)
    serve(settings, key)
    return 0
