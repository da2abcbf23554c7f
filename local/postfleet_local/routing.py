"""Where the mail of a local fleet goes. Pure: manifests in, manifests out.

A local fleet never sends mail off this machine unless it is told to: a node whose SMTP server is on loopback is served
as written, any other is turned to the sink. `--smtp HOST:PORT` turns every node to that server, with no TLS and login.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from postfleet_local.errors import ManifestError
from postfleet_operator.manifests import Manifests, Secret
from postfleet_operator.reachability import on_loopback
from postfleet_operator.spec import SendingNode
from postfleet_operator.spec.node import Smtp, Tls


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Host and port of an SMTP server."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def parse_endpoint(text: str) -> Endpoint:
    """`HOST:PORT`, an IPv6 address in brackets.

    Raises:
        ManifestError: it is something else.
    """
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or (":" in host and not text.startswith("[")) or not port.isdecimal() or not 1 <= int(port) <= 65535:
        raise ManifestError(f"--smtp: {text!r} is no HOST:PORT, give for example 127.0.0.1:2525")
    return Endpoint(host, int(port))


def to_server(manifests: Manifests, server: Endpoint) -> Manifests:
    """Every node delivers to `server`, in the clear and without a login."""
    return _with_nodes(manifests, [_turned(_signing(node, manifests), server, login=False) for node in manifests.nodes])


def to_sink(manifests: Manifests, sink: Endpoint) -> Manifests:
    """Every node delivers to the fleet's sink, with its own login."""
    return _with_nodes(manifests, [_turned(node, sink, login=True) for node in manifests.nodes])


def kept_here(manifests: Manifests, sink: Endpoint) -> Manifests:
    """Nodes on loopback stay as they are, the others deliver to the sink."""
    nodes = [
        node if on_loopback(node.spec.smtp.host) else _turned(_signing(node, manifests), sink, login=False)
        for node in manifests.nodes
    ]
    return _with_nodes(manifests, nodes)


def login_of(manifests: Manifests) -> Secret | None:
    """The Secret that the first node logs in with, if it names one that was given."""
    for node in manifests.nodes:
        reference = node.spec.smtp.credentials_secret_ref
        if reference is not None:
            return manifests.secret(node.metadata.namespace, reference.name)
    return None


def _with_nodes(manifests: Manifests, nodes: list[SendingNode]) -> Manifests:
    return replace(manifests, nodes=tuple(nodes))


def _signing(node: SendingNode, manifests: Manifests) -> SendingNode:
    """The node, unsigned where the Secret with its DKIM key was not given: its mail would wait for it."""
    dkim = node.spec.identity.dkim
    if dkim is None or manifests.secret(node.metadata.namespace, dkim.private_key_secret_ref.name) is not None:
        return node
    identity = node.spec.identity.model_copy(update={"dkim": None})
    return replace(node, spec=node.spec.model_copy(update={"identity": identity}))


def _turned(node: SendingNode, server: Endpoint, *, login: bool) -> SendingNode:
    before = node.spec.smtp
    smtp = Smtp(
        host=server.host,
        port=server.port,
        tls=Tls.NONE,
        helo_name=before.helo_name,
        credentials_secret_ref=before.credentials_secret_ref if login else None,
    )
    return replace(node, spec=node.spec.model_copy(update={"smtp": smtp}))
