"""`postfleet-operator run`: operate until told to stop."""

from __future__ import annotations

import re
import signal
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from postfleet_operator.errors import InputError
from postfleet_operator.logs import configure
from postfleet_operator.settings import Settings
from postfleet_operator.spec.model import DNS_LABEL

SUBDOMAIN = re.compile(rf"{DNS_LABEL.pattern}(\.{DNS_LABEL.pattern})*")
LONGEST = {DNS_LABEL: 63, SUBDOMAIN: 253}


@click.command(short_help="Operate until SIGTERM or Ctrl-C.")
@click.option(
    "--kubeconfig",
    type=click.Path(path_type=Path),
    help="The cluster to operate on; by default the one the pod runs in, else that of KUBECONFIG or ~/.kube/config.",
)
@click.option("--namespace", "-n", "namespaces", multiple=True, help="Look after this namespace only; may be repeated.")
@click.option(
    "--health-port", type=click.IntRange(0, 65535), help="Port of /healthz, /readyz, /metrics; 0: a free one."
)
def run(kubeconfig: Path | None, namespaces: tuple[str, ...], health_port: int | None) -> None:
    """Reconcile JobPools and SendingNodes, and scale their workers, until SIGTERM or Ctrl-C.

    Settings are environment variables that begin with POSTFLEET_: POSTFLEET_DATABASE_URL and POSTFLEET_REDIS_URL are
    needed. Several replicas may run; a Lease tells which of them acts.
    """
    given: dict[str, object] = {}
    if namespaces:
        given["namespaces"] = ",".join(namespaces)
    if health_port is not None:
        given["health_port"] = health_port
    try:
        settings = Settings(**given)  # type: ignore[arg-type]
    except ValidationError as error:
        raise InputError("\n".join(_line(problem) for problem in error.errors())) from None
    _check_names(settings)
    configure(settings.log_format, settings.log_level)
    from postfleet_operator.app import App
    from postfleet_operator.kube.kubeconfig import access

    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    App(settings, access(kubeconfig)).run(stop)


def _check_names(settings: Settings) -> None:
    """Refuse what the API server would refuse at every try."""
    given = [("LEASE_NAME", settings.lease_name, SUBDOMAIN)]
    given += [("LEASE_NAMESPACE", settings.lease_namespace, DNS_LABEL)] if settings.lease_namespace else []
    given += [("NAMESPACES", namespace, DNS_LABEL) for namespace in settings.watched]
    problems = [
        f"POSTFLEET_{name}: {text!r} is no name for Kubernetes, give a-z, 0-9 and -, a letter or digit at both ends"
        for name, text, pattern in given
        if not pattern.fullmatch(text) or len(text) > LONGEST[pattern]
    ]
    if problems:
        raise InputError("\n".join(problems))


def _line(problem: Mapping[str, Any]) -> str:
    name = "_".join(str(part) for part in problem["loc"]).upper()
    missing = problem["type"] == "missing"
    return f"POSTFLEET_{name}: {'is missing, set it in the environment' if missing else problem['msg']}"
