"""A sending node as the worker needs it, read from the mirror of its resource (`sending_nodes.spec`). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from typing import Any

from postfleet_workers.errors import InputError
from postfleet_workers.mail.admission import AT_FULL_SPEED, Slowed, limits_of_node, slowed
from postfleet_workers.mail.sites import limiting_sites
from postfleet_workers.placement import SHARED, is_dedicated, route
from postfleet_workers.throttling.limits import Limit

# What reading a spec that makes no sense may raise: the mirror's rows may hold whatever JSON can say.
UNREADABLE = (InputError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
MX = "mx"  # in place of a host: every mail goes to its recipient's own servers
MX_PORT = 25
SUBMISSION_PORT = 587


class Tls(StrEnum):
    """How a connection is protected. `StartTLS` is required; `Opportunistic` takes what is offered (RFC 7435)."""

    STARTTLS = "StartTLS"
    OPPORTUNISTIC = "Opportunistic"
    IMPLICIT = "Implicit"
    NONE = "None"


@dataclass(frozen=True, slots=True)
class Dkim:
    """How the node signs: the key lies beside its logins, as `<node>.dkim`. `domain` is the signature's `d=`."""

    selector: str
    domain: str


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """What it takes to hand mail to a node. An empty `tenants` lets every tenant use it.

    Attributes:
        addresses: local addresses that direct mail may leave from; empty: the system chooses.
        return_path_domain: bounces come back to addresses of our own there; '' leaves the sender's.
        dkim: how its mail is signed, if it is.
        sites: named sites that limit its mail; mail to them has a route of its own.
        slowed: by site, what its replies make the node do there now.
        spec: the whole spec, for what reads more of it (`sites`, `warmup`).
    """

    name: str
    host: str
    port: int
    tls: Tls
    helo: str
    login: bool
    domain: str
    max_connections: int
    messages_per_connection: int
    tenants: frozenset[str]
    paused: bool
    dedicated: bool = False
    addresses: tuple[str, ...] = ()
    return_path_domain: str = ""
    dkim: Dkim | None = None
    sites: frozenset[str] = field(default=frozenset(), compare=False, repr=False)
    slowed: Mapping[str, Slowed] = field(default_factory=dict, compare=False, repr=False)
    spec: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def direct(self) -> bool:
        """Whether its mail goes to the recipients' own servers (MX), not through one of ours."""
        return self.host == MX

    def served_by(self, place: str) -> bool:
        """Whether workers of that POSTFLEET_NODE send its mail: its own if it is Dedicated, else the shared ones."""
        return place == (self.name if self.dedicated else SHARED)

    def open_to(self, tenant: str) -> bool:
        """Whether this tenant may send through the node."""
        return not self.tenants or tenant in self.tenants

    def limits(self, today: date) -> tuple[Limit, ...]:
        """What all of its mail counts against; `today` is UTC's."""
        return limits_of_node(self.name, self.spec, today)

    def slowed_at(self, site: str) -> Slowed:
        """What it is made to do at a site now."""
        return self.slowed.get(site, AT_FULL_SPEED)

    def route(self, site: str) -> str:
        """The route of its mail to a site."""
        return route(self.name, site if site in self.sites else "")

    @property
    def endpoint(self) -> tuple[object, ...]:
        """What an open connection depends on; when it changes, connections are made anew."""
        return self.host, self.port, self.tls, self.helo, self.login, self.addresses


def parse_node(
    name: str, spec: Mapping[str, Any], *, paused: bool = False, slowdowns: Iterable[Mapping[str, Any]] = ()
) -> NodeSpec:
    """Read a node's spec; the operator validated it and filled its defaults in, which are repeated here.

    `slowdowns` are its rows that hold now, see `admission.slowed`.
    """
    smtp, identity = spec["smtp"], spec["identity"]
    domain = identity["domain"]
    direct = smtp["host"] == MX
    dkim = identity.get("dkim") or {}
    limits = spec.get("limits") or {}
    return NodeSpec(
        name=name,
        host=smtp["host"],
        port=smtp.get("port") or (MX_PORT if direct else SUBMISSION_PORT),
        tls=Tls(smtp.get("tls") or (Tls.OPPORTUNISTIC if direct else Tls.STARTTLS)),
        helo=smtp.get("heloName") or domain,
        login=bool(smtp.get("credentialsSecretRef")),
        domain=domain,
        max_connections=limits.get("maxConnections") or 20,
        messages_per_connection=limits.get("messagesPerConnection") or 100,
        tenants=frozenset(spec.get("tenants") or ()),
        paused=paused or bool(spec.get("paused")),
        dedicated=is_dedicated(spec),
        addresses=tuple(identity.get("ipAddresses") or ()),
        return_path_domain=identity.get("returnPathDomain") or "",
        dkim=Dkim(dkim["selector"], dkim.get("domain") or domain) if dkim.get("selector") else None,
        sites=limiting_sites(spec),
        slowed=slowed(slowdowns),
        spec=spec,
    )
