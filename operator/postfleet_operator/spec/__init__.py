"""What people write: the specs of JobPool and SendingNode, equal to `crds/` (a contract test holds that).

`parse_pool` and `parse_node` take a manifest as it comes from a file or the API and give a frozen value, or raise
`InvalidManifest` with one line per problem. `model` has the shared base and metadata, `complaints` the wording,
`documents` the lines.
"""

from __future__ import annotations

from postfleet_operator.spec.model import API_VERSION, GROUP, VERSION, Metadata
from postfleet_operator.spec.node import NodeSpec, SendingNode, parse_node
from postfleet_operator.spec.pool import JobPool, Mode, PoolSpec, parse_pool

__all__ = [
    "API_VERSION",
    "GROUP",
    "VERSION",
    "JobPool",
    "Metadata",
    "Mode",
    "NodeSpec",
    "PoolSpec",
    "SendingNode",
    "parse_node",
    "parse_pool",
]
