"""The `postfleet-local` command: a table of options over `up` and `demo`.

Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted; every error is one line on stderr.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import click
import psycopg

from postfleet_local.errors import LocalError, ManifestError
from postfleet_operator.errors import OperatorError
from postfleet_workers.errors import PostfleetError

FAILED, BAD_INPUT, INTERRUPTED = 1, 2, 130

FOLDER = click.Path(file_okay=False, path_type=Path)
COUNT = click.IntRange(1, 1_000_000)
READABLE = click.Path(exists=True, readable=True, path_type=Path)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="postfleet", prog_name="postfleet-local")
def cli() -> None:
    """The whole fleet on one machine: PostgreSQL, Valkey, relay, autoscaler, and workers as processes."""


@cli.command()
@click.option(
    "--dir", "directory", type=FOLDER, default=Path(".postfleet"), show_default=True, help="The fleet's folder."
)
@click.option(
    "-f", "--file", "sources", type=READABLE, multiple=True, help="Manifests: a file or a folder; may be repeated."
)
@click.option("--smtp", metavar="HOST:PORT", help="Deliver to this server, in the clear, instead of the sink.")
def up(directory: Path, sources: tuple[Path, ...], smtp: str | None) -> None:
    """Run a fleet until Ctrl-C. Edit its manifests meanwhile: they take effect at once.

    Without -f it runs a copy of the quickstart's manifests, in DIR/manifests.
    """
    from postfleet_local import up as command

    command.run(directory, sources, smtp)


@cli.command()
@click.option(
    "--emails", type=click.IntRange(1, 1_000_000), default=10_000, show_default=True, help="Size of the campaign."
)
@click.option("--pool", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A JobPool of yours.")
@click.option("--smtp", metavar="HOST:PORT", help="Deliver to this server, in the clear, instead of the sink.")
@click.option(
    "--dir", "directory", type=FOLDER, help="Where to put data, logs and the report; a new folder by default."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Write the summary as one line of JSON, everything else to stderr."
)
@click.option("--tracking", is_flag=True, help="Run `postfleet web`, and have every mail link to it.")
@click.option("--no-live", is_flag=True, help="No live view: a line every few seconds.")
def demo(
    emails: int,
    pool: Path | None,
    smtp: str | None,
    directory: Path | None,
    as_json: bool,
    tracking: bool,
    no_live: bool,
) -> int:
    """Send a whole campaign through autoscaled workers, count it at the SMTP server, and draw a report.

    Fails when a mail is lost or sent twice.
    """
    from postfleet_local import demo as command

    return command.run(
        command.Wishes(emails, pool, smtp, directory, as_json=as_json, live=not no_live, tracking=tracking)
    )


def say(message: str) -> None:
    """Write error lines."""
    for line in message.splitlines():
        click.echo(f"postfleet-local: {' '.join(line.split())}", err=True)


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    ctx = getattr(error, "ctx", None)
    return f"{message} (see `{ctx.command_path} --help`)" if ctx else message


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code."""
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGHUP, _interrupt)
    try:
        result = cli.main(args=args, prog_name="postfleet-local", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return BAD_INPUT
    except click.ClickException as error:
        say(_usage(error))
        return BAD_INPUT
    except ManifestError as error:
        say(str(error))
        return BAD_INPUT
    except (LocalError, OperatorError, PostfleetError) as error:
        say(str(error))
        return FAILED
    except psycopg.OperationalError as error:
        say(f"PostgreSQL: {str(error).strip().splitlines()[0]}")
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Entry point of the `postfleet-local` script."""
    sys.exit(run())
