"""Kubernetes objects as small values: what the operator keeps of a Deployment, a Pod and a Secret. Pure.

The cache of a large cluster holds thousands of them; whole manifests would take gigabytes.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from postfleet_operator.cluster import Pod
from postfleet_operator.spec import API_VERSION
from postfleet_operator.spec.podtemplate import NODE_LABEL, POOL_LABEL

DELETION_COST = "controller.kubernetes.io/pod-deletion-cost"


@dataclass(frozen=True, slots=True)
class Owned:
    """What a Deployment or a Secret of ours is known by."""

    namespace: str
    name: str
    uid: str
    pool: str
    owner_uid: str
    owner_kind: str


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A Deployment: whose it is, how many replicas it wants, and which field managers have applied that number."""

    owned: Owned
    replicas: int
    counted_by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PodView:
    """A worker's pod: where it belongs, its life, its cost of deletion, and whether its containers have ended."""

    pod: Pod
    namespace: str
    pool: str
    node: str
    cost: str
    ended: bool
    finished: bool


def owned(manifest: Mapping[str, Any]) -> Owned:
    """Read the metadata of an object that may be ours."""
    metadata = manifest["metadata"]
    owner: Mapping[str, Any] = next((ref for ref in metadata.get("ownerReferences") or [] if ref.get("controller")), {})
    ours = owner.get("apiVersion") == API_VERSION
    return Owned(
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata.get("uid", ""),
        pool=(metadata.get("labels") or {}).get(POOL_LABEL, ""),
        owner_uid=owner.get("uid", "") if ours else "",
        owner_kind=owner.get("kind", "") if ours else "",
    )


def deployment(manifest: Mapping[str, Any]) -> DeploymentView:
    """Read a Deployment."""
    return DeploymentView(
        owned(manifest),
        replicas=int((manifest.get("spec") or {}).get("replicas", 1)),
        counted_by=tuple(
            str(entry.get("manager"))
            for entry in manifest["metadata"].get("managedFields") or []
            if entry.get("operation") == "Apply" and "f:replicas" in (entry.get("fieldsV1") or {}).get("f:spec", {})
        ),
    )


def pod(manifest: Mapping[str, Any]) -> PodView:
    """Read a pod."""
    metadata, status = manifest["metadata"], manifest.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {condition.get("type"): condition for condition in status.get("conditions") or []}
    ready, scheduled = conditions.get("Ready", {}), conditions.get("PodScheduled", {})
    states = [(container.get("state") or {}) for container in status.get("containerStatuses") or []]
    finished = status.get("phase") in ("Succeeded", "Failed")
    return PodView(
        pod=Pod(
            name=metadata["name"],
            created_at=seconds(metadata.get("creationTimestamp")) or 0.0,
            ready_at=seconds(ready.get("lastTransitionTime")) if ready.get("status") == "True" else None,
            unschedulable=scheduled.get("status") == "False" and scheduled.get("reason") == "Unschedulable",
            stopping=bool(metadata.get("deletionTimestamp")),
        ),
        namespace=metadata["namespace"],
        pool=labels.get(POOL_LABEL, ""),
        node=labels.get(NODE_LABEL, ""),
        cost=(metadata.get("annotations") or {}).get(DELETION_COST, ""),
        ended=finished or (bool(states) and all("terminated" in state for state in states)),
        finished=finished,
    )


def secret_data(manifest: Mapping[str, Any]) -> dict[str, str]:
    """A Secret's content; what is no text counts as absent."""
    found = {}
    for key, value in (manifest.get("data") or {}).items():
        try:
            found[key] = base64.b64decode(value, validate=True).decode()
        except (binascii.Error, ValueError):
            continue
    return found


def encoded(content: Mapping[str, str]) -> dict[str, str]:
    """Text as a Secret's `data`."""
    return {key: base64.b64encode(value.encode()).decode() for key, value in content.items()}


def seconds(timestamp: str | None) -> float | None:
    """A time of the API as epoch seconds."""
    if not timestamp:
        return None
    return datetime.fromisoformat(timestamp).astimezone(UTC).timestamp()


def merge_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """What turns `before` into `after` (RFC 7386): changed keys, and null for those that are gone."""
    patch: dict[str, Any] = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if isinstance(old, Mapping) and isinstance(value, Mapping):
            if inner := merge_patch(old, value):
                patch[key] = inner
        elif key not in before or old != value:
            patch[key] = value
    return patch
