"""Where a mail goes: the servers that take its recipient's mail, and the site that they belong to.

Mail of a node that hands everything to one server of ours goes there; the site says only whose limits it counts
against, and no name server is asked unless the node limits sites. Mail of a direct node goes to the servers named here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from postfleet_workers.mail import sites
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.replies.reply import Reply
from postfleet_workers.mail.sites import SiteLimits
from postfleet_workers.mail.smtp.mx import Hosts, mail_hosts
from postfleet_workers.mail.smtp.resolver import Resolver

UNLIMITED = SiteLimits()
MOST_KNOWN = 10_000


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a recipient's mail goes.

    Attributes:
        site: the receiving side that limits apply to; '' where it is not known, or nothing is limited by it.
        hosts: its servers, the preferred ones first; empty: the node's own server takes it.
        limits: what the node may do at the site.
    """

    site: str = ""
    hosts: tuple[str, ...] = ()
    limits: SiteLimits = UNLIMITED

    @property
    def key(self) -> tuple[str, ...]:
        """Mail with the same key may go over one connection: to the same servers, and under one limit on sessions."""
        limited = self.limits.max_connections or self.limits.messages_per_connection
        return (self.site if limited else "", *sorted(self.hosts))


OWN_SERVER = Destination()


class Exchanges(Protocol):
    """Finds destinations, and remembers them; used by all threads of a process."""

    def of(self, node: NodeSpec, domain: str) -> Destination | Reply:
        """Where mail of the node goes for recipients of a domain (lower case, ASCII).

        Returns:
            The destination; or, where there is none, a reply as a server would give it: a domain that takes no mail
            (RFC 7505) or does not exist, a name server that did not answer.
        """


@dataclass(frozen=True, slots=True)
class _View:
    """What destinations need of a node's spec, read from it once; and the sites of hosts, worked out once."""

    node: NodeSpec
    by_site: bool
    named: frozenset[str]
    known: dict[tuple[str, ...], tuple[str, SiteLimits]] = field(default_factory=dict)

    def at(self, hosts: tuple[str, ...]) -> tuple[str, SiteLimits]:
        """The site that the hosts make, and what the node may do there."""
        found = self.known.get(hosts)
        if found is None:
            site = sites.of_hosts(hosts, self.named)
            found = site, sites.limits_of(site, self.node.spec)
            if len(self.known) >= MOST_KNOWN:
                self.known.clear()
            self.known[hosts] = found
        return found


class MxExchanges:
    """The `Exchanges` of production.

    Args:
        resolver: asked for MX hosts; one that remembers (`CachedResolver`).
        jitter: uniform in [0, 1), to share mail among servers of equal preference.
    """

    def __init__(self, resolver: Resolver, jitter: Callable[[], float]) -> None:
        self._resolver = resolver
        self._jitter = jitter
        self._views: dict[str, _View] = {}

    def of(self, node: NodeSpec, domain: str) -> Destination | Reply:
        """See `Exchanges`."""
        view = self._view(node)
        if not view.by_site:
            return OWN_SERVER
        site = sites.by_domain(domain, view.named)
        if site and not node.direct:
            return Destination(site, limits=sites.limits_of(site, node.spec))
        match mail_hosts(domain, self._resolver, self._jitter):
            case Hosts(names=hosts):
                site, limits = view.at(hosts)
                return Destination(site, hosts if node.direct else (), limits)
            case reply:
                return reply if node.direct else OWN_SERVER  # our server finds out for itself

    def _view(self, node: NodeSpec) -> _View:
        view = self._views.get(node.name)
        if view is None or view.node is not node:
            named = sites.limiting_sites(node.spec)
            view = self._views[node.name] = _View(node, node.direct or sites.needs_hosts(node.spec), named)
        return view
