"""Where the operator's objects are in the Kubernetes API. Pure."""

from __future__ import annotations

from urllib.parse import quote

from postfleet_operator.spec import GROUP, VERSION

POOLS = "jobpools"
NODES = "sendingnodes"
_PREFIXES = {
    POOLS: f"/apis/{GROUP}/{VERSION}",
    NODES: f"/apis/{GROUP}/{VERSION}",
    "deployments": "/apis/apps/v1",
    "leases": "/apis/coordination.k8s.io/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "events": "/api/v1",
}


def collection(plural: str, namespace: str = "") -> str:
    """All objects of a kind, of one namespace or of all."""
    where = f"/namespaces/{quote(namespace, safe='')}" if namespace else ""
    return f"{_PREFIXES[plural]}{where}/{plural}"


def one(plural: str, namespace: str, name: str, subresource: str = "") -> str:
    """One object, or its subresource."""
    return f"{collection(plural, namespace)}/{quote(name, safe='')}" + (f"/{subresource}" if subresource else "")
