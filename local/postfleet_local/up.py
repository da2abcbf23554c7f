"""`postfleet-local up`: a fleet until Ctrl-C."""

from __future__ import annotations

import os
import threading
from datetime import datetime
from pathlib import Path

import click

from postfleet_local import routing
from postfleet_local.diary import keep_diary
from postfleet_local.fleet import Fleet, Options
from postfleet_local.home import Home
from postfleet_local.services import WEB
from postfleet_local.sources import read

# Of the caller's own POSTFLEET_* settings the fleet keeps only this: the relay has to know a user's job types too.
PASSED_ON = ("POSTFLEET_JOB_MODULES",)
LOOK_SECONDS = 0.5


def run(directory: Path, sources: tuple[Path, ...], smtp: str | None) -> None:
    """Run until Ctrl-C or SIGTERM."""
    settings = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    options = Options(
        sources=sources,
        smtp=routing.parse_endpoint(smtp) if smtp else None,
        receivers=(WEB,),
        settings=settings,
    )
    kept = directory / "manifests"
    given = sources or ((kept,) if kept.exists() else ())
    for line in read(given).skipped if given else ():
        click.echo(line, err=True)
    with Home(directory) as home, keep_diary(home.directory / "logs" / "fleet.log"):
        tell("starting PostgreSQL and Valkey …")
        try:
            with Fleet(home, options, tell) as fleet:
                for line in greeting(fleet):
                    click.echo(line)
                try:
                    wait_for_interrupt()
                finally:
                    tell("stopping: workers finish what they have begun (Ctrl-C again: at once)")
        except KeyboardInterrupt:
            tell("stopped")
            raise


def wait_for_interrupt() -> None:
    """Wait until a signal's handler raises.

    Python runs handlers between its own steps, so a signal that comes right before a wait without an end would be seen
    when that ends: never.
    """
    while not threading.Event().wait(LOOK_SECONDS):
        pass


def tell(line: str) -> None:
    """Write a line with the time."""
    click.echo(f"{datetime.now().astimezone():%H:%M:%S}  {line}")


def greeting(fleet: Fleet) -> list[str]:
    """What runs, and what to try next."""
    home = fleet.home.directory
    kind = "your SMTP server" if fleet.sink is None else "SMTP sink"
    pools = ", ".join(pool.metadata.name for pool in fleet.cluster.pools())
    return [
        "",
        "The fleet is up. Ctrl-C stops it.",
        "",
        f"  PostgreSQL  {fleet.database_url}",
        f"  Valkey      {fleet.valkey.url()}",
        f"  {kind:<11} {fleet.server}" + (f"  (mails: {fleet.sink.mails})" if fleet.sink else ""),
        f"  web         {fleet.public_url}  (links in mails lead here)",
        f"  pools       {pools}  (status: {home / 'status'}, logs: {home / 'logs'})",
        f"  manifests   {', '.join(str(path.resolve()) for path in fleet.sources)}  (edit them: changes take effect)",
        "",
        "Try, in another terminal:",
        "",
        f"  set -a; . {home / 'env'}; set +a",
        "  postfleet nodes list",
        "  postfleet jobs stats",
        '  psql "$POSTFLEET_DATABASE_URL"',
        '  redis-cli -u "$POSTFLEET_REDIS_URL"',
        "",
    ]
