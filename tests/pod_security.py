"""The `restricted` Pod Security Standard, read over a pod's spec.

Source: https://kubernetes.io/docs/concepts/security/pod-security-standards/, version 1.37.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
PROFILES = {"RuntimeDefault", "Localhost"}


def violations(pod: Mapping[str, Any]) -> list[str]:
    """What in a pod's spec the standard forbids; empty for none."""
    return [*_of_the_pod(pod), *(line for kind in ("initContainers", "containers") for line in _of_all(pod, kind))]


def _of_the_pod(pod: Mapping[str, Any]) -> Iterator[str]:
    own = pod.get("securityContext", {})
    yield from (f"{field} is set" for field in ("hostNetwork", "hostPID", "hostIPC") if pod.get(field))
    for volume in pod.get("volumes", ()):
        yield from (f"volume {volume['name']} is a {kind}" for kind in volume.keys() - {"name"} - VOLUMES)
    yield from (f"{field} is set" for field in ("sysctls", "seLinuxOptions", "windowsOptions") if own.get(field))
    if own.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if "appArmorProfile" in own and own["appArmorProfile"].get("type") == "Unconfined":
        yield "AppArmor is unconfined"


def _of_all(pod: Mapping[str, Any], kind: str) -> Iterator[str]:
    for container in pod.get(kind, ()):
        found = _of_one(container, pod.get("securityContext", {}))
        yield from (f"{kind} {container['name']}: {line}" for line in found)


def _of_one(container: Mapping[str, Any], pod: Mapping[str, Any]) -> Iterator[str]:
    own = container.get("securityContext", {})
    both = {**pod, **own}
    if own.get("privileged"):
        yield "is privileged"
    if own.get("allowPrivilegeEscalation") is not False:
        yield "allowPrivilegeEscalation is not false"
    capabilities = own.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", ()):
        yield "does not drop ALL capabilities"
    if more := set(capabilities.get("add", ())) - {"NET_BIND_SERVICE"}:
        yield f"adds {', '.join(sorted(more))}"
    if both.get("runAsNonRoot") is not True:
        yield "runAsNonRoot is not true"
    if both.get("runAsUser") == 0:
        yield "runAsUser is 0"
    if both.get("seccompProfile", {}).get("type") not in PROFILES:
        yield "has no seccomp profile"
    if own.get("procMount", "Default") != "Default":
        yield "has a procMount"
    yield from ("has a hostPort" for port in container.get("ports", ()) if port.get("hostPort"))
