"""What may not run now, known before any row is fetched: pauses, suspended sites, and which limits hold a group back.

How much these limits let through is `permits`'. Both only read: the worker asks for real, one step before MAIL FROM.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from sqlalchemy import Connection, Row, text

from postfleet_workers.errors import InputError
from postfleet_workers.mail.admission import (
    AT_FULL_SPEED,
    Slowed,
    limits_at,
    limits_of_node,
    sessions_at,
    slowed,
)
from postfleet_workers.mail.node import UNREADABLE
from postfleet_workers.mail.sites import limiting_sites, limits_of
from postfleet_workers.placement import is_dedicated, node_of, site_of
from postfleet_workers.relay.allocate import Key
from postfleet_workers.throttling.limits import Limit, campaign_limits, tenant_limits
from postfleet_workers.throttling.sessions import at_site

TODAY = text("SELECT CAST(timezone('UTC', postfleet_now()) AS date)")
TENANTS = text("SELECT name, weight, per_minute, per_day, paused FROM tenants")
NODES = text("SELECT name, spec, paused FROM sending_nodes")
HOLDS = text("SELECT kind, key FROM holds")
SLOWDOWNS = text("""
SELECT node, site, action, value, rule, extract(epoch FROM until - postfleet_now()) AS seconds
FROM slowdowns WHERE until > postfleet_now()
""")
CAMPAIGNS = text("""
SELECT id, per_minute FROM campaigns WHERE per_minute IS NOT NULL AND state IN ('expanding', 'running')
""")


@dataclass(frozen=True, slots=True)
class Tenant:
    """A row of `tenants`, as far as limits go. `invalid`: why it makes no sense; then nothing of it goes out."""

    weight: int = 1
    limits: tuple[Limit, ...] = ()
    paused: bool = False
    invalid: str = ""


@dataclass(frozen=True, slots=True)
class Site:
    """A named site, as far as it limits a node.

    Attributes:
        limits: the node's rates there.
        sessions: its maxConnections there; None: no limit of the site's own.
        suspended: why nothing goes there now; '' where it does.
    """

    limits: tuple[Limit, ...] = ()
    sessions: Limit | None = None
    suspended: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A sending node, as far as limits go.

    Attributes:
        limits: its rates, and the cap of its warmup.
        sessions: its maxConnections.
        tenants: to whom it is open; empty: to all.
        paused: nothing goes out.
        invalid: why its spec makes no sense; then nothing goes out either.
        dedicated: it has workers of its own, on queues of its own.
        sites: named sites that limit its mail.
    """

    limits: tuple[Limit, ...]
    sessions: Limit
    tenants: frozenset[str]
    paused: bool
    invalid: str = ""
    dedicated: bool = False
    sites: Mapping[str, Site] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rules:
    """Everything that may hold a group back, read in one go."""

    tenants: Mapping[str, Tenant] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    held_batches: frozenset[str] = frozenset()
    held_queues: frozenset[str] = frozenset()
    campaigns: Mapping[str, tuple[Limit, ...]] = field(default_factory=dict)  # by batch

    def weight(self, tenant: str) -> int:
        """The tenant's share of the pipe."""
        return self.tenants.get(tenant, Tenant()).weight

    def closed(self, queue: str, key: Key) -> str | None:
        """Why nothing of the group may go out, or None."""
        tenant, batch, route = key
        if queue in self.held_queues:
            return f"queue {queue} paused"
        if self.tenants.get(tenant, Tenant()).paused:
            return f"tenant {tenant} paused"
        if self.tenants.get(tenant, Tenant()).invalid:
            return f"tenant {tenant} has an invalid row"
        if batch and batch in self.held_batches:
            return f"{batch.replace(':', ' ')} paused"
        return self._node_closed(tenant, node_of(route), site_of(route)) if route else None

    def _node_closed(self, tenant: str, name: str, site: str) -> str | None:
        node = self.nodes.get(name)
        if node is None:
            return f"node {name} unknown"
        if node.paused:
            return f"node {name} paused"
        if node.invalid:
            return f"node {name} has an invalid spec"
        if node.tenants and tenant not in node.tenants:
            return f"node {name} not open to tenant {tenant}"
        if why := node.sites.get(site, Site()).suspended:
            return f"node {name} at {site} {why}"
        return None

    def road(self, queue: str, route: str) -> str:
        """What Redis calls the queue for jobs of that route: a Dedicated node has its own."""
        node = self.nodes.get(node_of(route)) if route else None
        return f"{queue}.{node_of(route)}" if node is not None and node.dedicated else queue

    def goes_by(self, road: str, queue: str, route: str) -> bool:
        """Whether the queue's jobs of that route go by that road."""
        return self.road(queue, route) == road

    def dedicated(self) -> frozenset[str]:
        """The nodes that have queues of their own."""
        return frozenset(name for name, node in self.nodes.items() if node.dedicated)

    def roads(self, queue: str) -> list[str]:
        """Every name that Redis has for a queue now, its own first."""
        return [queue, *(f"{queue}.{name}" for name, node in sorted(self.nodes.items()) if node.dedicated)]

    def limits(self, key: Key) -> tuple[Limit, ...]:
        """The limits that a group's jobs count against; only mail (a route) is limited."""
        tenant, batch, route = key
        node = self.nodes.get(node_of(route)) if route else None
        if node is None:
            return ()
        own, campaign = self.tenants.get(tenant, Tenant()).limits, self.campaigns.get(batch, ())
        return (*node.limits, node.sessions, *self.at_site(route), *own, *campaign)

    def at_site(self, route: str) -> tuple[Limit, ...]:
        """Those of them that are of the route's site."""
        node = self.nodes.get(node_of(route))
        site = node.sites.get(site_of(route)) if node else None
        return () if site is None else (*site.limits, *([site.sessions] if site.sessions else []))

    def rates(self, route: str) -> tuple[Limit, ...]:
        """The rates of the route's node and site."""
        node = self.nodes.get(node_of(route))
        return () if node is None else (*node.limits, *node.sites.get(site_of(route), Site()).limits)

    def sites(self, name: str) -> frozenset[str]:
        """The named sites that limit a node's mail."""
        return frozenset(self.nodes[name].sites) if name in self.nodes else frozenset()

    def held_by_node(self, key: Key, reason: str) -> bool:
        """Whether what holds a group back is its node, or its site there, and not its tenant or its campaign."""
        tenant, _, route = key
        if not route or not reason:
            return False
        own = (*self.rates(route), *self.sessions(route))
        return reason in {limit.name for limit in own} or reason == self._node_closed(
            tenant, node_of(route), site_of(route)
        )

    def sessions(self, route: str) -> tuple[Limit, ...]:
        """Those of them that limit sessions: each executing job holds one."""
        node = self.nodes.get(node_of(route)) if route else None
        if node is None:
            return ()
        at_site = node.sites.get(site_of(route), Site()).sessions
        return (node.sessions,) if at_site is None else (node.sessions, at_site)

    def invalid(self) -> dict[str, str]:
        """What makes no sense, by `tenant <name>` and `node <name>`, and why."""
        tenants = {f"tenant {name}": tenant.invalid for name, tenant in self.tenants.items() if tenant.invalid}
        return tenants | {f"node {name}": node.invalid for name, node in self.nodes.items() if node.invalid}


def read(connection: Connection) -> Rules:
    """Read the rules from PostgreSQL. A row that makes no sense closes its tenant or node, and nobody else's."""
    today: date = connection.execute(TODAY).scalar_one()
    slowdowns: dict[str, list[Mapping[str, Any]]] = defaultdict(list)
    for one in connection.execute(SLOWDOWNS).mappings():
        slowdowns[one["node"]].append(dict(one))
    tenants = {row.name: _tenant(row) for row in connection.execute(TENANTS)}
    nodes = {
        row.name: node(row.name, row.spec, paused=row.paused, today=today, slowdowns=slowdowns.get(row.name, ()))
        for row in connection.execute(NODES)
    }
    holds: dict[str, set[str]] = defaultdict(set)
    for row in connection.execute(HOLDS):
        holds[row.kind].add(row.key)
    campaigns = {f"campaign:{row.id}": campaign_limits(row.id, row.per_minute) for row in connection.execute(CAMPAIGNS)}
    return Rules(tenants, nodes, frozenset(holds["batch"]), frozenset(holds["queue"]), campaigns)


def _tenant(row: Row[Any]) -> Tenant:
    try:
        limits = tenant_limits(row.name, row.per_minute, row.per_day)
    except InputError as error:
        return Tenant(paused=row.paused, invalid=str(error))
    if row.weight < 1:
        return Tenant(paused=row.paused, invalid=f"tenant {row.name} weight: {row.weight} is no weight")
    return Tenant(row.weight, limits, row.paused)


def node(
    name: str, spec: Any, *, paused: bool, today: date = date.min, slowdowns: Iterable[Mapping[str, Any]] = ()
) -> Node:
    """A sending node from its mirrored spec, which may be anything that JSON can say. Pure; `today` is UTC's."""
    try:
        found = (spec.get("limits") or {}).get("maxConnections")
        sessions = _sessions(name, 20 if found is None else int(found))
        limits = limits_of_node(name, spec, today)
        tenants = _names(spec.get("tenants") or [])
        dedicated = is_dedicated(spec)
        slow = slowed(slowdowns)
        sites = {site: _site(name, site, spec, slow.get(site, AT_FULL_SPEED)) for site in limiting_sites(spec)}
    except UNREADABLE as error:
        return Node((), _sessions(name, 1), frozenset(), paused, invalid=f"{type(error).__name__}: {error}")
    return Node(limits, sessions, tenants, paused, dedicated=dedicated, sites=sites)


def _site(node: str, site: str, spec: Mapping[str, Any], slow: Slowed) -> Site:
    own = sessions_at(limits_of(site, spec), slow)
    most = own.max_connections
    sessions = None if most is None else _sessions(at_site(node, site), most, f"node {node} at {site} maxConnections")
    return Site(limits_at(node, site, own, slow), sessions, slow.suspended)


def _names(found: Any) -> frozenset[str]:
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise TypeError(f"tenants: {found!r} is no list of names")
    return frozenset(found)


def _sessions(place: str, count: int, name: str = "") -> Limit:
    return Limit(f"sessions:{place}", name or f"node {place} maxConnections", count, 1.0)
