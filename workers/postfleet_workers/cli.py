"""The `postfleet` command: a table of lazily loaded commands, and the one place where errors become exit codes.

A command's module is imported only when that command runs, so that `postfleet worker` starts fast and `--help` imports
nothing. Exit codes: 0 done, 1 failed, 2 bad input, 130 interrupted; every error is one line on stderr.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import click

from postfleet_workers.commands.root import Root
from postfleet_workers.errors import InputError, PostfleetError

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class Lazy:
    """Where a command lives: `module:attribute`, and its line in `postfleet --help`."""

    target: str
    help: str

    def load(self) -> click.Command:
        """Import the command."""
        module, _, attribute = self.target.partition(":")
        command = getattr(import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{self.target} is no click command")
        return command


COMMANDS: dict[str, Lazy] = {
    "migrate": Lazy("postfleet_workers.commands.processes:migrate", "Bring the database to the newest schema."),
    "worker": Lazy("postfleet_workers.commands.processes:worker", "Run a worker on the given queues."),
    "relay": Lazy(
        "postfleet_workers.commands.processes:relay", "Run the relay: publish due jobs, rescue orphaned ones."
    ),
    "inbound": Lazy("postfleet_workers.commands.inbound:inbound", "Take the bounces and complaints that come back."),
    "web": Lazy("postfleet_workers.commands.web:web", "Serve what mails link to: unsubscribing, clicks, opens."),
    "send": Lazy("postfleet_workers.commands.send:send", "Enqueue one email."),
    "contacts": Lazy("postfleet_workers.commands.contacts:contacts", "Import contacts from CSV files."),
    "campaigns": Lazy("postfleet_workers.commands.campaigns:campaigns", "Create, start, pause and watch campaigns."),
    "emails": Lazy(
        "postfleet_workers.commands.emails:emails", "See emails and what became of them; settle unknown ones."
    ),
    "suppressions": Lazy(
        "postfleet_workers.commands.suppressions:suppressions", "See and change who gets no mail; erase addresses."
    ),
    "jobs": Lazy("postfleet_workers.commands.jobs:jobs", "See, retry, cancel and discard jobs."),
    "tenants": Lazy("postfleet_workers.commands.tenants:tenants", "See and set tenants' shares and limits."),
    "nodes": Lazy("postfleet_workers.commands.nodes:nodes", "See the sending nodes; give unsent mail to another."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called; its help comes from the table."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """The names, in the table's order."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import one command."""
        lazy = COMMANDS.get(cmd_name)
        return lazy.load() if lazy else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """Write the table without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, lazy.help) for name, lazy in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(package_name="postfleet", prog_name="postfleet")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Email and background jobs: PostgreSQL keeps the state, Redis carries the work, workers do it.

    Settings are POSTFLEET_* variables; POSTFLEET_DATABASE_URL is required, POSTFLEET_REDIS_URL by relay and worker.
    """
    ctx.obj = Root()
    ctx.call_on_close(ctx.obj.close)


def say(message: str) -> None:
    """Write one error line."""
    click.echo(f"postfleet: {' '.join(message.split())}", err=True)


def _usage(error: click.ClickException) -> str:
    message = error.format_message().rstrip(".")
    ctx = getattr(error, "ctx", None)
    return f"{message} (see `{ctx.command_path} --help`)" if ctx else message


def run(args: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code; errors are written as one line."""
    try:
        result: Any = cli.main(args=args, prog_name="postfleet", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return BAD_INPUT
    except click.ClickException as error:
        say(_usage(error))
        return BAD_INPUT
    except InputError as error:
        say(str(error))
        return BAD_INPUT
    except PostfleetError as error:
        say(str(error))
        return FAILED
    except click.Abort:
        return INTERRUPTED
    return result if isinstance(result, int) else 0


def main() -> None:
    """Entry point of the `postfleet` script."""
    sys.exit(run())
