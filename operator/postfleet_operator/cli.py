"""The command `postfleet-operator`. Errors are one line each; exit code 2 for bad input, 1 for a failure."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from postfleet_operator import definitions
from postfleet_operator.coherence import errors, warnings
from postfleet_operator.commands.explain import explain_pool, plugin
from postfleet_operator.commands.run import run
from postfleet_operator.commands.simulate import simulate
from postfleet_operator.errors import InputError, InvalidManifest, OperatorError
from postfleet_operator.manifests import load


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postfleet", prog_name="postfleet-operator")
def cli() -> None:
    """Run pools of workers on Kubernetes and scale them on the real backlog."""


@cli.command("crds", short_help="Print the CRDs for kubectl apply.")
def print_crds() -> None:
    """Print the CustomResourceDefinitions: postfleet-operator crds | kubectl apply --server-side -f -."""
    click.echo(definitions.text(), nl=False)


@cli.command(short_help="Check manifests without a cluster.")
@click.option(
    "-f",
    "--filename",
    "paths",
    multiple=True,
    required=True,
    metavar="FILE|DIR",
    type=click.Path(path_type=Path),
    help="Manifests to check; a folder stands for the manifests in it. May be given several times.",
)
def check(paths: tuple[Path, ...]) -> None:
    """Check manifests of JobPools, SendingNodes and Secrets without a cluster.

    What can never work ends with exit code 2; what hardly means what it says, such as a queue in two pools or a
    setting that no worker has, is a warning.
    """
    found = load(paths)
    for line in (*found.skipped, *warnings(found)):
        click.echo(line, err=True)
    if wrong := errors(found):
        raise InvalidManifest(wrong)
    count = len(found.pools) + len(found.nodes) + len(found.secrets)
    click.echo(f"{count} manifest{'' if count == 1 else 's'} ok")


cli.add_command(explain_pool)
cli.add_command(run)
cli.add_command(simulate)


def _message(error: click.ClickException) -> str:
    message = " ".join(error.format_message().split()).rstrip(".")
    if not isinstance(error, click.UsageError):
        return message
    return f"{message} (see `{error.ctx.command_path if error.ctx else 'postfleet-operator'} --help`)"


def main() -> None:
    """Entry point of `postfleet-operator`."""
    _enter(cli, "postfleet-operator")


def kubectl_jobpool() -> None:
    """Entry point of the kubectl plugin: `kubectl jobpool …` finds it on the PATH."""
    _enter(plugin, "kubectl jobpool")


def _enter(command: click.Command, name: str) -> None:
    """Like click's own, but usage errors are one line too."""
    try:
        code = command.main(prog_name=name, standalone_mode=False)
    except click.exceptions.Abort:
        sys.exit(130)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        sys.exit(error.exit_code)
    except click.ClickException as error:
        click.echo(f"{name}: {_message(error)}", err=True)
        sys.exit(error.exit_code)
    except InputError as error:
        click.echo(str(error), err=True)
        sys.exit(2)
    except OperatorError as error:
        click.echo(f"{name}: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
