"""A sending node as the worker needs it, read from the mirror of its resource (`sending_nodes.spec`). Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from postfleet_workers.placement import SHARED, is_dedicated
from postfleet_workers.throttling.limits import Limit, node_limits


class Tls(StrEnum):
    """How a connection to the node is protected. `StartTLS` is required, not tried."""

    STARTTLS = "StartTLS"
    IMPLICIT = "Implicit"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What it takes to hand mail to a node. An empty `tenants` lets every tenant use it."""

    name: str
    host: str
    port: int
    tls: Tls
    helo: str
    login: bool
    domain: str
    max_connections: int
    messages_per_connection: int
    limits: tuple[Limit, ...]
    tenants: frozenset[str]
    paused: bool
    dedicated: bool = False

    def served_by(self, place: str) -> bool:
        """Whether workers of that POSTFLEET_NODE send its mail: its own if it is Dedicated, else the shared ones."""
        return place == (self.name if self.dedicated else SHARED)

    def open_to(self, tenant: str) -> bool:
        """Whether this tenant may send through the node."""
        return not self.tenants or tenant in self.tenants

    @property
    def endpoint(self) -> tuple[object, ...]:
        """What an open connection depends on; when it changes, connections are made anew."""
        return self.host, self.port, self.tls, self.helo, self.login


def parse_node(name: str, spec: Mapping[str, Any], *, paused: bool = False) -> NodeSpec:
    """Read a node's spec; the operator validated it and filled its defaults in, which are repeated here."""
    smtp = spec["smtp"]
    domain = spec["identity"]["domain"]
    limits = spec.get("limits") or {}
    return NodeSpec(
        name=name,
        host=smtp["host"],
        port=smtp.get("port") or 587,
        tls=Tls(smtp.get("tls") or Tls.STARTTLS),
        helo=smtp.get("heloName") or domain,
        login=bool(smtp.get("credentialsSecretRef")),
        domain=domain,
        max_connections=limits.get("maxConnections") or 20,
        messages_per_connection=limits.get("messagesPerConnection") or 100,
        limits=node_limits(name, spec),
        tenants=frozenset(spec.get("tenants") or ()),
        paused=paused or bool(spec.get("paused")),
        dedicated=is_dedicated(spec),
    )
