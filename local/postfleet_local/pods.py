"""From a pod template to a process: what kubelet would set up, as values. Pure.

The first container becomes one child process. All replicas share this machine's network and file system, so two things
differ from a pod: what listens on every address of a pod listens on 127.0.0.1, at a free port of its own, and a mounted
Secret is a folder of the fleet, so values that name its mount path are re-rooted there.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from postfleet_local.errors import LocalError

HEALTH_HOST, HEALTH_PORT = "POSTFLEET_HEALTH_HOST", "POSTFLEET_HEALTH_PORT"
# Of the processes that are reached from outside.
SERVED = (("POSTFLEET_WEB_HOST", "POSTFLEET_WEB_PORT"), ("POSTFLEET_INBOUND_HOST", "POSTFLEET_INBOUND_PORT"))
EVERY_ADDRESS = "0.0.0.0"  # noqa: S104 - to be replaced
DEFAULT_GRACE_SECONDS = 30.0
_REFERENCE = re.compile(r"\$\$\(|\$\(([A-Za-z_][A-Za-z0-9_]*)\)")

Secrets = Mapping[str, Mapping[str, bytes]]
"""Data of every Secret of the fleet, by name and key."""


class PodError(LocalError):
    """The template cannot be started as it stands (yet): kubelet's CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class Probe:
    """An httpGet probe of the health endpoint; so many `failures` in a row count."""

    path: str
    period_seconds: float
    timeout_seconds: float
    failures: int


@dataclass(frozen=True, slots=True)
class Launch:
    """A replica, ready to be started.

    Attributes:
        argv: the program and its arguments.
        env: its variables (the caller adds PATH and the like).
        readiness: None when the pod counts as ready once it runs.
        liveness: None when it counts as alive as long as it runs.
        startup_seconds: liveness is not judged before a first success or the end of this time.
    """

    argv: tuple[str, ...]
    env: Mapping[str, str]
    readiness: Probe | None
    liveness: Probe | None
    startup_seconds: float


def template_hash(template: Mapping[str, Any]) -> str:
    """Four hex digits that tell one template from another; part of the replicas' names."""
    return hashlib.sha256(json.dumps(template, sort_keys=True, default=str).encode()).hexdigest()[:4]


def grace_seconds(template: Mapping[str, Any]) -> float:
    """How long a replica may take to end after SIGTERM."""
    return float(template.get("spec", {}).get("terminationGracePeriodSeconds", DEFAULT_GRACE_SECONDS))


@dataclass(frozen=True, slots=True)
class SecretVolume:
    """A mounted Secret; an optional one that is missing is an empty folder."""

    secret: str
    optional: bool


def secret_volumes(template: Mapping[str, Any]) -> dict[str, SecretVolume]:
    """The Secret volumes, by volume name.

    Raises:
        PodError: a volume of a kind that the local fleet does not have.
    """
    found: dict[str, SecretVolume] = {}
    for volume in template.get("spec", {}).get("volumes", ()):
        match volume:
            case {"name": name, "secret": {"secretName": secret, **rest}}:
                found[name] = SecretVolume(secret, bool(rest.get("optional", False)))
            case {"name": name, "emptyDir": _}:
                continue
            case _:
                raise PodError(f"volume {volume.get('name')!r}: the local fleet has Secret volumes only")
    return found


def launch(
    template: Mapping[str, Any], *, replica: str, secrets: Secrets, folders: Mapping[str, Path], port: int
) -> Launch:
    """What to run for one replica of a pod template.

    Args:
        template: `spec.template` of a Deployment.
        replica: the replica's name, in the place of the pod's.
        secrets: every Secret of the fleet.
        folders: where the content of each Secret volume lies, by Secret name.
        port: a free port of 127.0.0.1 for the health endpoint.

    Raises:
        PodError: the template refers to something that is not there, or that the local fleet does not have.
    """
    container = template["spec"]["containers"][0]
    volumes = secret_volumes(template)
    roots = {
        mount["mountPath"].rstrip("/"): str(folders[volumes[mount["name"]].secret])
        for mount in container.get("volumeMounts", ())
        if mount["name"] in volumes
    }
    env = _environment(container, template, replica, secrets)
    env = {name: _rerooted(value, roots) for name, value in env.items()}
    if HEALTH_PORT in env:
        env |= {HEALTH_HOST: "127.0.0.1", HEALTH_PORT: str(port)}
    for host_name, port_name in SERVED:
        if env.get(host_name) == EVERY_ADDRESS:
            env |= {host_name: "127.0.0.1", port_name: "0"}
    words = [*container.get("command", ()), *container.get("args", ())]
    if not words:
        raise PodError(f"container {container.get('name')!r} has no command: the local fleet has no images")
    startup, liveness = _probe(container, "startupProbe"), _probe(container, "livenessProbe")
    delay = float((container.get("livenessProbe") or {}).get("initialDelaySeconds", 0))
    return Launch(
        argv=tuple(_rerooted(_expanded(word, env), roots) for word in words),
        env=env,
        readiness=_probe(container, "readinessProbe"),
        liveness=liveness,
        startup_seconds=startup.period_seconds * startup.failures if startup else delay,
    )


def _probe(container: Mapping[str, Any], kind: str) -> Probe | None:
    probe: Mapping[str, Any] = container.get(kind) or {}
    if "httpGet" not in probe:
        return None
    return Probe(
        probe["httpGet"]["path"],
        period_seconds=float(probe.get("periodSeconds", 10)),
        timeout_seconds=float(probe.get("timeoutSeconds", 1)),
        failures=int(probe.get("failureThreshold", 3)),
    )


def _environment(
    container: Mapping[str, Any], template: Mapping[str, Any], replica: str, secrets: Secrets
) -> dict[str, str]:
    env: dict[str, str] = {}
    for source in container.get("envFrom", ()):
        match source:
            case {"secretRef": {"name": name, **rest}}:
                if name not in secrets and not rest.get("optional"):
                    raise PodError(f"secret {name!r} not found")
                prefix = source.get("prefix", "")
                env |= {prefix + key: value.decode() for key, value in secrets.get(name, {}).items()}
            case _:
                raise PodError("envFrom: the local fleet has Secrets only")
    for variable in container.get("env", ()):
        value = _value(variable, template, replica, secrets)
        if value is not None:
            env[variable["name"]] = _expanded(value, env)
    return env


def _value(variable: Mapping[str, Any], template: Mapping[str, Any], replica: str, secrets: Secrets) -> str | None:
    match variable:
        case {"valueFrom": {"fieldRef": {"fieldPath": path}}}:
            return _field(path, template, replica)
        case {"valueFrom": {"secretKeyRef": {"name": name, "key": key, **rest}}}:
            data = secrets.get(name, {}).get(key)
            if data is None and not rest.get("optional"):
                raise PodError(f"secret {name!r} has no key {key!r}, which {variable['name']} needs")
            return None if data is None else data.decode()
        case {"valueFrom": other}:
            raise PodError(f"{variable['name']}: the local fleet does not know valueFrom {next(iter(other), '')!r}")
        case _:
            return str(variable.get("value", ""))


def _field(path: str, template: Mapping[str, Any], replica: str) -> str:
    labels: Mapping[str, str] = template.get("metadata", {}).get("labels", {})
    match path:
        case "metadata.name" | "metadata.uid" | "spec.nodeName":
            return replica
        case "metadata.namespace":
            return "local"
        case "status.podIP" | "status.hostIP":
            return "127.0.0.1"
        case _ if path.startswith("metadata.labels['"):
            return labels.get(path.removeprefix("metadata.labels['").removesuffix("']"), "")
        case _:
            raise PodError(f"the local fleet does not know the field {path!r}")


def _expanded(text: str, env: Mapping[str, str]) -> str:
    """Kubernetes' `$(NAME)`; a name that is not there stays as it is, `$$(` is a literal `$(`."""
    return _REFERENCE.sub(lambda m: "$(" if m[1] is None else env.get(m[1], m[0]), text)


def _rerooted(text: str, roots: Mapping[str, str]) -> str:
    for mount_path, folder in roots.items():
        if text == mount_path or text.startswith(mount_path + "/"):
            return folder + text[len(mount_path) :]
    return text
