"""Lays a partial pod template over a rendered one, as Kubernetes' strategic merge patch would. Pure.

Mappings merge field by field and single values replace each other. The lists that Kubernetes merges by a key are merged
by that key: an entry that is there already is merged with its namesake, a new one comes last. Every other list
(`command`, `envFrom`, `tolerations`, `capabilities.drop` …) replaces the rendered one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

# The fields of a pod template with `x-kubernetes-patch-merge-key` in Kubernetes' OpenAPI (1.37), and that key.
# Ephemeral containers and owner references are left out: a template may not have them.
MERGE_KEYS: Mapping[str, str] = {
    "spec.containers": "name",
    "spec.containers.env": "name",
    "spec.containers.ports": "containerPort",
    "spec.containers.volumeDevices": "devicePath",
    "spec.containers.volumeMounts": "mountPath",
    "spec.evictionResponders": "name",
    "spec.hostAliases": "ip",
    "spec.imagePullSecrets": "name",
    "spec.initContainers": "name",
    "spec.initContainers.env": "name",
    "spec.initContainers.ports": "containerPort",
    "spec.initContainers.volumeDevices": "devicePath",
    "spec.initContainers.volumeMounts": "mountPath",
    "spec.resourceClaims": "name",
    "spec.schedulingGates": "name",
    "spec.topologySpreadConstraints": "topologyKey",
    "spec.volumes": "name",
}
# Entries that are one of several kinds: of a namesake nothing is kept, or it would be two kinds at once. Kubernetes
# says so of volumes and claims (`retainKeys`); a variable with `value` and `valueFrom` would be refused likewise.
REPLACED = frozenset({"spec.volumes", "spec.resourceClaims", "spec.containers.env", "spec.initContainers.env"})


def overlay(template: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`template` with `patch` over it; neither is changed."""
    return _mapping(template, patch, "")


def _mapping(below: Mapping[str, Any], above: Mapping[str, Any], path: str) -> dict[str, Any]:
    merged = dict(below)
    for name, value in above.items():
        merged[name] = _value(below.get(name), value, f"{path}.{name}".removeprefix("."))
    return merged


def _value(below: Any, above: Any, path: str) -> Any:
    if isinstance(above, Mapping):
        return _mapping(below if isinstance(below, Mapping) else {}, above, path)
    if isinstance(above, list | tuple):
        return _entries(below or (), above, path, MERGE_KEYS[path]) if path in MERGE_KEYS else list(above)
    return above


def _entries(below: Sequence[Mapping[str, Any]], above: Sequence[Any], path: str, key: str) -> list[Any]:
    """`below` with `above` over it: an entry takes at most one namesake, since a key may be only part of a name.

    53/UDP and 53/TCP are two ports. What is no entry of this kind stays as it is: Kubernetes says best what is wrong.
    """
    merged: list[Any] = [dict(entry) for entry in below]
    places = [(entry.get(key), place) for place, entry in enumerate(merged)]
    for entry in above:
        if not isinstance(entry, Mapping):
            merged.append(entry)
            continue
        found = next((each for each in places if key in entry and each[0] == entry[key]), None)
        if found is None:
            merged.append(_mapping({}, entry, path))
        else:
            places.remove(found)
            merged[found[1]] = _mapping({} if path in REPLACED else merged[found[1]], entry, path)
    return merged
