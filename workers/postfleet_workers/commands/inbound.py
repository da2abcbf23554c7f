"""`postfleet inbound`."""

from __future__ import annotations

import click

from postfleet_workers import logs
from postfleet_workers.commands.output import output_option, show
from postfleet_workers.commands.root import Root, pass_root
from postfleet_workers.errors import InputError


@click.command()
@click.option(
    "--addresses", is_flag=True, help="Only print each node's return-path domain and its address for complaints."
)
@output_option
@pass_root
def inbound(root: Root, addresses: bool, output: str) -> int:
    """Take the bounces and complaints that come back of mail. Runs until SIGTERM.

    An SMTP server at POSTFLEET_INBOUND_HOST and POSTFLEET_INBOUND_PORT (127.0.0.1:2525) for the return-path domains of
    the nodes (identity.returnPathDomain): their MX records lead to it, at port 25. It takes mail to addresses that
    workers signed with POSTFLEET_SECRET_KEY, and no other, marks the emails bounced, and suppresses addresses that are
    none and people who complain. Register what --addresses prints with the feedback loops of the large providers.

    POSTFLEET_INBOUND_TLS_CERT offers STARTTLS. Start as many as you like. Needs PostgreSQL, and puts senders off while
    that is away; Redis it does not need. /healthz, /readyz and /metrics are at POSTFLEET_HEALTH_HOST and
    POSTFLEET_HEALTH_PORT.
    """
    key = root.key
    if key is None:
        raise InputError("POSTFLEET_SECRET_KEY is not set; give the one that workers sign return paths with")
    if addresses:
        from postfleet_workers.inbound.addresses import addresses as found
        from postfleet_workers.store.session import transaction

        with transaction(root.engine) as connection:
            rows = found(connection, key)
        show(rows, ("node", "return_path_domain", "complaints_to"), output)
        return 0
    from postfleet_workers.inbound.server import serve

    settings = root.settings
    logs.configure(settings.log_format, settings.log_level)
    serve(settings, key)
    return 0
