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

    Listens at POSTFLEET_WEB_HOST and POSTFLEET_WEB_PORT (127.0.0.1:8080), in plain HTTP, for a proxy with TLS that
    answers at POSTFLEET_PUBLIC_URL: mails link there where workers have that URL, and campaigns ask for it (oneClick,
    trackClicks, trackOpens). Start as many as you like. Needs PostgreSQL and POSTFLEET_SECRET_KEY, the one that workers
    have; Redis it does not need.

    While PostgreSQL is away it tells those who unsubscribe to come again, and sends readers on as ever. /healthz,
    /readyz and /metrics are at POSTFLEET_HEALTH_HOST and POSTFLEET_HEALTH_PORT.
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
