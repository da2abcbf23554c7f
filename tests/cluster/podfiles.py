"""Projected volumes, and the token of a pod's ServiceAccount where clients look for it.

Every pod has that token at one path, and processes of one machine share their files: a process with a token gets a
mount namespace of its own, with a `/run` of its own. That takes util-linux and a kernel that lets this user do it.
"""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from postfleet_local.pods import PodError

ACCOUNT = "/var/run/secrets/kubernetes.io/serviceaccount"
UNSHARE = ("unshare", "--user", "--map-root-user", "--mount")
SCRIPT = 'mount -t tmpfs none /run && mkdir -p "${0%/*}" && ln -s "$1" "$0" && shift && exec "$@"'
UNABLE = """\
a pod's token needs a mount namespace, and this user may not make one. On Ubuntu:
sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"""

Pod = Mapping[str, Any]
TokenRequest = Callable[[Pod, Mapping[str, Any]], str]
"""Takes a pod and the `serviceAccountToken` of its volume; raises PodError while there is none to be had."""


def _no_token(pod: Pod, wanted: Mapping[str, Any]) -> str:
    raise PodError("nobody gives tokens")


@dataclass(slots=True)
class Sources:
    """What pods refer to: data of Secrets and ConfigMaps by name, tokens, and where the API server is."""

    secrets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    maps: dict[str, dict[str, str]] = field(default_factory=dict)
    token: TokenRequest = _no_token
    env: dict[str, str] = field(default_factory=dict)


@functools.cache
def able() -> bool:
    """Whether a process can be given a `/run` of its own."""
    try:
        done = subprocess.run([*UNSHARE, "mount", "-t", "tmpfs", "none", "/run"], capture_output=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0


def with_account(argv: tuple[str, ...], folder: str) -> tuple[str, ...]:
    """A command that finds the folder's files at `ACCOUNT`; as it was where that is not possible."""
    return (*UNSHARE, "sh", "-c", SCRIPT, ACCOUNT, folder, *argv) if able() else argv


def account_volume(pod: Pod) -> str | None:
    """The volume that the first container has at `ACCOUNT`."""
    mounts = pod["spec"]["containers"][0].get("volumeMounts", ())
    return next((mount["name"] for mount in mounts if mount["mountPath"] == ACCOUNT), None)


def plain(spec: Mapping[str, Any]) -> dict[str, Any]:
    """A pod's spec without its projected volumes, which the local fleet does not have."""
    return {**spec, "volumes": [volume for volume in spec.get("volumes", ()) if "projected" not in volume]}


def projected(pod: Pod, sources: Sources) -> dict[str, dict[str, bytes]]:
    """The files of each projected volume. Tokens are not renewed: no test takes as long as one is good.

    Raises:
        PodError: something that they are made of is missing.
    """
    volumes = [volume for volume in pod["spec"].get("volumes", ()) if "projected" in volume]
    return {
        volume["name"]: dict(
            found for source in volume["projected"]["sources"] for found in _files(source, pod, sources)
        )
        for volume in volumes
    }


def _files(source: Mapping[str, Any], pod: Pod, sources: Sources) -> Iterator[tuple[str, bytes]]:
    match source:
        case {"serviceAccountToken": wanted}:
            yield wanted["path"], sources.token(pod, wanted).encode()
        case {"configMap": {"name": name, "items": items}}:
            if name not in sources.maps:
                raise PodError(f"configmap {name!r} not found")
            yield from ((item["path"], sources.maps[name][item["key"]].encode()) for item in items)
        case {"downwardAPI": {"items": items}}:
            for item in items:
                part, name = item["fieldRef"]["fieldPath"].split(".")
                yield item["path"], str(pod[part][name]).encode()
        case _:
            raise PodError(f"projected volumes: nobody knows the source {next(iter(source), '')!r}")
