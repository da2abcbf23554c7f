"""Where the API server is and who asks: a kubeconfig, or the service account of the pod.

What a file can have wrong is told in our own words: the client's quote what they stumble over, tokens too.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kubernetes
import yaml
from kubernetes.client import Configuration
from kubernetes.config import ConfigException
from kubernetes.config.kube_config import KUBE_CONFIG_DEFAULT_LOCATION

from postfleet_operator.errors import InputError

# How many connections the loops, the events and kopf's cache may use at a time.
CONNECTIONS = 16
SERVICE_ACCOUNT = "the pod's service account"


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach an API server.

    Attributes:
        configuration: for the client.
        source: what said so, for errors: a file, or the pod's service account.
        namespace: what is meant where nobody names one.
    """

    configuration: Configuration
    source: str
    namespace: str = "default"

    @property
    def cluster(self) -> str:
        """A word that tells the cluster from others: of its certificate authority, or its address where it has none.

        A pod's address of the API server is the same in most clusters.
        """
        authority = self.configuration.ssl_ca_cert
        try:
            content = Path(authority).read_bytes() if authority else b""
        except OSError:
            content = b""
        return hashlib.sha256(b"".join(content.split()) or str(self.configuration.host).encode()).hexdigest()[:12]


def access(kubeconfig: Path | None = None, context: str | None = None) -> Access:
    """The kubeconfig that is named; else the pod's service account; else the kubeconfig in its usual place.

    Args:
        kubeconfig: a file.
        context: one of its contexts, instead of its current one.

    Raises:
        InputError: neither is there, or it cannot be used; one line that says which.
    """
    if kubeconfig is None and context is None and (found := _service_account()) is not None:
        return found
    places = [kubeconfig] if kubeconfig is not None else _usual()
    there = [place for place in places if place.exists()]
    names = " and ".join(str(place) for place in there or places)
    if not there:
        hint = "" if kubeconfig else "; run in a pod, or name a kubeconfig with --kubeconfig or KUBECONFIG"
        raise InputError(f"no cluster: {names}: no such file{hint}")
    return _load({place: _read(place) for place in there}, names, context)


def _service_account() -> Access | None:
    found = _configuration()
    try:
        kubernetes.config.load_incluster_config(client_configuration=found)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError):
        return None
    return Access(found, SERVICE_ACCOUNT)


def _usual() -> list[Path]:
    return [Path(place).expanduser() for place in KUBE_CONFIG_DEFAULT_LOCATION.split(os.pathsep) if place]


def _read(place: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(place.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        raise InputError(f"{place}: cannot be read: it is no text") from None
    except OSError as error:
        raise InputError(f"{place}: cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f":{mark.line + 1}"
        raise InputError(f"{place}{where}: is no YAML, give a kubeconfig") from None
    if not isinstance(found, dict):
        raise InputError(f"{place}: is no kubeconfig, give what `kubectl config view --raw` prints")
    return found


def _load(files: Mapping[Path, Mapping[str, Any]], names: str, context: str | None) -> Access:
    found = _configuration()
    try:
        kubernetes.config.load_kube_config(  # type: ignore[no-untyped-call]
            os.pathsep.join(map(str, files)), context=context, client_configuration=found
        )
        namespace = _namespace(list(files.values()), context)
    except ConfigException as error:
        raise InputError(f"{names}: {_lacks(str(error))}") from None
    except Exception as error:  # noqa: BLE001 - the client stumbles over what it does not expect, in any way
        raise InputError(f"{names}: is no kubeconfig that can be used ({type(error).__name__})") from None
    if not re.match(r"https?://[^/]", found.host):
        raise InputError(f"{names}: its server is no URL, give one that begins with https://")
    return Access(found, names, namespace)


def _namespace(files: Sequence[Mapping[str, Any]], context: str | None) -> str:
    """Of the context that is used: the last file tells which, the first that has it what it is."""
    name = context or [file["current-context"] for file in files if "current-context" in file][-1]
    contexts = [each for file in files for each in file.get("contexts") or [] if each["name"] == name]
    return str(contexts[0]["context"].get("namespace") or "default")


def _lacks(text: str) -> str:
    """What a complaint of the client's is about, without the piece of the file that it quotes."""
    if found := re.search(r"Expected key (\S+) in", text):
        return f"has no {found[1]}, give a kubeconfig with one"
    if found := re.search(r"object with name (.+?) in \S+/(\w+?)s? list$", text):
        return f"has no {found[2]} {found[1]}, name one that it has"
    if found := re.search(r"File does not exist: (\S+)", text):
        return f"names a file that is not there: {found[1]}"
    return "is no kubeconfig that can be used"


def _configuration() -> Configuration:
    found = Configuration()
    found.connection_pool_maxsize = CONNECTIONS
    found.retries = False  # who asked knows better what to do about a failure
    return found
