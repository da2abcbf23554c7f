"""The pods of a fleet that no pool makes: the relay, and what mail comes back to. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RELAY, WEB, INBOUND = "relay", "web", "inbound"


def pod(name: str, connections: str, port: int | None = None) -> Mapping[str, Any]:
    """The template of `postfleet <name>`, which takes its settings from the Secret `connections`.

    Args:
        name: of the command, too.
        connections: Secret with the fleet's settings.
        port: where it is reached, if it is reached at all.
    """
    served = [] if port is None else [{"name": f"POSTFLEET_{name.upper()}_PORT", "value": str(port)}]
    container = {
        "name": name,
        "command": ["postfleet", name],
        "env": [
            {"name": "POSTFLEET_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "POSTFLEET_HEALTH_PORT", "value": "8080"},
            *served,
        ],
        "envFrom": [{"secretRef": {"name": connections}}],
        "readinessProbe": {"httpGet": {"path": "/readyz", "port": "health"}, "periodSeconds": 5},
    }
    return {"spec": {"terminationGracePeriodSeconds": 10, "containers": [container]}}
