"""`postfleet-operator explain`, and the kubectl plugin `kubectl jobpool`: for whoever is on call."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import yaml

from postfleet_operator import clock
from postfleet_operator.errors import InputError, InvalidManifest, NotFound, NotServed, Rejected
from postfleet_operator.explain import Section, explain
from postfleet_operator.spec import SendingNode, parse_node, parse_pool

if TYPE_CHECKING:
    from postfleet_operator.kube.client import Api  # the client's import takes long: only who needs it pays

NAMESPACE = click.option("-n", "--namespace", help="The pool's namespace; by default that of the kubeconfig's context.")
KUBECONFIG = click.option(
    "--kubeconfig", type=click.Path(path_type=Path), help="By default that of KUBECONFIG or ~/.kube/config."
)
CONTEXT = click.option("--context", help="Context of the kubeconfig; by default its current one.")
OUTPUT = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)


@click.command("explain", short_help="Say why POOL has the workers that it has.")
@click.argument("pool", required=False)
@NAMESPACE
@KUBECONFIG
@CONTEXT
@click.option(
    "-f",
    "--filename",
    type=click.Path(path_type=Path, allow_dash=True),
    help="Read it from a file instead: what `kubectl get jobpools,sendingnodes -o yaml` printed; - is standard input.",
)
@click.option(
    "--status",
    type=click.Path(path_type=Path),
    help="With -f: the pool's status, if the file has none; DIR/status/POOL.json of a local fleet.",
)
@OUTPUT
def explain_pool(
    pool: str | None,
    namespace: str | None,
    kubeconfig: Path | None,
    context: str | None,
    filename: Path | None,
    status: Path | None,
    output: str,
) -> None:
    """Say why POOL has the workers that it has, what holds the number, and what would change it."""
    if pool is None and filename is None:
        raise click.UsageError("name a POOL, or give a file with -f")
    if status is not None and filename is None:
        raise click.UsageError("--status goes with -f")
    if filename is not None:
        manifest, nodes = _from_file(filename, pool, namespace)
        if status is not None:
            manifest = {**manifest, "status": _documents(status)[0]}
    else:
        with _cluster(kubeconfig, context) as (api, usual):
            manifest = _pool(api, namespace or usual, str(pool))
            nodes = _nodes(api, namespace or usual)
    found = parse_pool(manifest)
    _print(explain(found.key, found.spec, found.status, clock.now(), list(_readable(nodes))), output)


@click.command("list", short_help="List pools: workers, backlog, what is in the way.")
@NAMESPACE
@click.option("-A", "--all-namespaces", is_flag=True, help="Pools of every namespace.")
@KUBECONFIG
@CONTEXT
@OUTPUT
def list_pools(
    namespace: str | None, all_namespaces: bool, kubeconfig: Path | None, context: str | None, output: str
) -> None:
    """List pools: workers, backlog, what one worker does, what is in the way."""
    from postfleet_operator.kube import paths

    with _cluster(kubeconfig, context) as (api, usual):
        where = "" if all_namespaces else namespace or usual
        rows = [_row(manifest) for manifest in _listed(api, paths.collection(paths.POOLS, where))]
    if output == "json":
        click.echo(json.dumps(rows))
        return
    if not rows:
        click.echo("no JobPools here", err=True)
        return
    headings = list(rows[0])
    widths = [max(len(heading), *(len(str(row[heading])) for row in rows)) for heading in headings]
    for line in ([heading.upper() for heading in headings], *([str(row[h]) for h in headings] for row in rows)):
        click.echo("  ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)).rstrip())


@click.command("history")
@click.argument("pool")
@NAMESPACE
@KUBECONFIG
@CONTEXT
@OUTPUT
def history(pool: str, namespace: str | None, kubeconfig: Path | None, context: str | None, output: str) -> None:
    """Show the last decisions about POOL, the newest first."""
    with _cluster(kubeconfig, context) as (api, usual):
        status = _pool(api, namespace or usual, pool).get("status") or {}
    decisions = status.get("recentDecisions") or []
    if output == "json":
        click.echo(json.dumps(decisions))
        return
    for decision in decisions:
        click.echo(f"{decision['time']}  {decision['message']}")
    if not decisions:
        click.echo("nothing was decided yet", err=True)


@click.group("kubectl-jobpool", context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="postfleet", prog_name="kubectl jobpool")
def plugin() -> None:
    """Look at JobPools from kubectl."""


for command in (explain_pool, list_pools, history):
    plugin.add_command(command)


def _print(sections: list[Section], output: str) -> None:
    if output == "json":
        click.echo(json.dumps([{"heading": section.heading, "lines": section.lines} for section in sections]))
        return
    for number, section in enumerate(sections):
        click.echo(("\n" if number else "") + section.heading)
        for line in section.lines:
            click.echo(f"  {line}")


def _row(manifest: Mapping[str, Any]) -> dict[str, object]:
    spec, status = manifest.get("spec") or {}, manifest.get("status") or {}
    backlog = status.get("backlog") or {}
    return {
        "namespace": manifest["metadata"]["namespace"],
        "name": manifest["metadata"]["name"],
        "mode": spec.get("mode", ""),
        "desired": status.get("desiredReplicas", "-"),
        "ready": status.get("readyReplicas", "-"),
        "backlog": backlog.get("total", "-"),
        "oldest": f"{backlog['oldestSeconds']} s" if "oldestSeconds" in backlog else "-",
        "throttled": backlog.get("throttled", "-"),
        "jobs/s": status.get("throughputPerReplica", "-"),
        "bottleneck": status.get("bottleneck", "-"),
    }


def _readable(nodes: Iterable[Mapping[str, Any]]) -> Iterator[SendingNode]:
    """Without those whose spec is broken: `explain` is about the pool, and their own status says what is wrong."""
    for node in nodes:
        with contextlib.suppress(InvalidManifest):
            yield parse_node(node)


def _from_file(path: Path, pool: str | None, namespace: str | None) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The pool, the only one or the one that is named, and all nodes."""
    found = [item for document in _documents(path) for item in document.get("items") or [document]]
    pools = [item for item in found if item.get("kind") == "JobPool"]
    metadata = [item.get("metadata") or {} for item in pools]
    fitting = [
        item
        for item, each in zip(pools, metadata, strict=True)
        if pool in (None, each.get("name")) and namespace in (None, each.get("namespace", "default"))
    ]
    if not pools:
        raise InputError(f"{path}: holds no JobPool; give what `kubectl get jobpool NAME -o yaml` prints")
    if len(fitting) != 1:
        names = ", ".join(f"{each.get('namespace', 'default')}/{each.get('name')}" for each in metadata)
        raise InputError(f"{path}: holds {names}; name one of them as POOL, and its namespace with -n")
    return fitting[0], [item for item in found if item.get("kind") == "SendingNode"]


def _documents(path: Path) -> list[dict[str, Any]]:
    try:
        text = sys.stdin.read() if str(path) == "-" else path.read_text(encoding="utf-8")
        found = [document for document in yaml.safe_load_all(text) if document is not None]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML: {' '.join(str(error).split())}") from None
    if not found or not all(isinstance(document, dict) for document in found):
        raise InputError(f"{path}: holds no resources")
    return found


@contextlib.contextmanager
def _cluster(kubeconfig: Path | None, context: str | None) -> Iterator[tuple[Api, str]]:
    """A client, and the namespace that is meant where nobody names one."""
    from postfleet_operator.kube.client import Api
    from postfleet_operator.kube.kubeconfig import access

    found = access(kubeconfig, context)
    api = Api(found.configuration, source=found.source)
    try:
        yield api, found.namespace
    finally:
        api.close()


def _pool(api: Api, namespace: str, name: str) -> dict[str, Any]:
    from postfleet_operator.kube import paths

    try:
        return api.get(paths.one(paths.POOLS, namespace, name))
    except NotServed:
        raise
    except NotFound:
        raise InputError(f"there is no JobPool {name} in namespace {namespace}; -n names another") from None


def _nodes(api: Api, namespace: str) -> list[dict[str, Any]]:
    """A person who may not read them gets the pool explained all the same."""
    from postfleet_operator.kube import paths

    try:
        return _listed(api, paths.collection(paths.NODES, namespace))
    except Rejected as error:
        click.echo(f"without sending nodes: {error}", err=True)
        return []


def _listed(api: Api, path: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    api.list(path, "", found.append)
    return found
