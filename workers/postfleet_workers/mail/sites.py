"""Which receiving site a recipient belongs to, and what a node may do there. Pure.

A *site* is what receivers' limits apply to: mailboxes whose MX hosts belong together, whatever their domains are. The
big ones are named in `TABLE`, by the domains that their MX hosts lie under and, so that most mail needs no DNS, by the
domains of their mailboxes. A node's spec may name more, by a domain of its own. Every other site is known by its MX
hosts: domains with the same set of hosts are one site.

The figures of the table are receivers' own where they publish them (Yahoo's and Comcast's postmaster pages, Apple's
102322) and otherwise KumoMTA's defaults for well-behaved senders (`shaping.toml`, read in March 2026). They apply to
nodes that deliver directly; behind a smarthost, what the node's spec lists. Raise `VERSION` with every change.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

VERSION = 1
DEFAULT = "default"  # in a spec: every site that has no name, each by itself
ROLLED_UP = "mx:"
LONGEST = 80


@dataclass(frozen=True, slots=True)
class SiteLimits:
    """What one node may do at one site; None: no limit of the site's own."""

    per_minute: int | None = None
    per_hour: int | None = None
    per_day: int | None = None
    max_connections: int | None = None
    messages_per_connection: int | None = None


@dataclass(frozen=True, slots=True)
class Site:
    """A site with a name.

    Attributes:
        name: lower-case letters, digits and '-': never a dot, which only domains have.
        hosts: domains that its MX hosts lie under.
        domains: recipients' domains that are known to be there.
        limits: what a node that delivers directly may do there.
    """

    name: str
    hosts: tuple[str, ...]
    domains: tuple[str, ...]
    limits: SiteLimits


# Any site without limits of its own.
OTHERS = SiteLimits(per_minute=6000, max_connections=10, messages_per_connection=100)


def _site(name: str, hosts: str, domains: str, connections: int, messages: int) -> Site:
    limits = replace(OTHERS, max_connections=connections, messages_per_connection=messages)
    return Site(name, tuple(hosts.split()), tuple(domains.split()), limits)


TABLE: tuple[Site, ...] = (
    _site("apple", "icloud.com", "icloud.com me.com mac.com", 10, 5),
    _site("comcast", "comcast.net", "comcast.net", 25, 1000),
    _site("gmail", "google.com googlemail.com", "gmail.com googlemail.com", 5, 50),
    _site(
        "gmx",
        "gmx.net web.de",
        "gmx.de gmx.net gmx.at gmx.ch gmx.com gmx.org gmx.info gmx.biz gmx.eu web.de",
        4,
        20,
    ),
    _site("orange", "orange.fr", "orange.fr wanadoo.fr", 3, 100),
    # Hotmail and Microsoft 365 are two farms with one set of rules and one reputation: one site errs on the safe side.
    _site(
        "outlook",
        "outlook.com mx.microsoft",
        "outlook.com outlook.at outlook.be outlook.co.id outlook.com.au outlook.com.br outlook.de outlook.dk "
        "outlook.es outlook.fr outlook.ie outlook.it outlook.jp outlook.kr outlook.pt outlook.sa "
        "hotmail.com hotmail.be hotmail.ca hotmail.ch hotmail.co.jp hotmail.co.uk hotmail.com.ar hotmail.com.au "
        "hotmail.com.br hotmail.de hotmail.dk hotmail.es hotmail.fi hotmail.fr hotmail.gr hotmail.it hotmail.nl "
        "hotmail.no hotmail.se live.com live.at live.be live.ca live.cl live.co.uk live.com.ar live.com.au live.com.mx "
        "live.com.pt live.de live.dk live.fr live.ie live.in live.it live.jp live.nl live.no live.se "
        "msn.com passport.com windowslive.com",
        5,
        50,
    ),
    _site("qq", "qq.com", "qq.com foxmail.com", 4, 8),
    # With AOL, and the ISPs whose mail Yahoo keeps. Yahoo Japan is another company.
    _site(
        "yahoo",
        "yahoodns.net",
        "yahoo.com yahoo.at yahoo.be yahoo.ca yahoo.co.id yahoo.co.in yahoo.co.nz yahoo.co.th yahoo.co.uk yahoo.co.za "
        "yahoo.com.ar yahoo.com.au yahoo.com.br yahoo.com.co yahoo.com.hk yahoo.com.mx yahoo.com.my yahoo.com.pe "
        "yahoo.com.ph yahoo.com.sg yahoo.com.tr yahoo.com.tw yahoo.com.vn yahoo.de yahoo.dk yahoo.es yahoo.fi yahoo.fr "
        "yahoo.gr yahoo.ie yahoo.in yahoo.it yahoo.nl yahoo.no yahoo.pl yahoo.ro yahoo.se ymail.com rocketmail.com "
        "myyahoo.com aol.com aol.co.uk aol.de aol.fr aim.com netscape.net verizon.net att.net bellsouth.net "
        "sbcglobal.net",
        10,
        20,
    ),
)

_NAMED = {site.name: site for site in TABLE}
_BY_DOMAIN = {domain: site.name for site in TABLE for domain in site.domains}
_BY_HOST = {domain: site.name for site in TABLE for domain in site.hosts}
_CAMEL = {
    "perMinute": "per_minute",
    "perHour": "per_hour",
    "perDay": "per_day",
    "maxConnections": "max_connections",
    "messagesPerConnection": "messages_per_connection",
}


def by_domain(domain: str, named: Collection[str] = ()) -> str:
    """The site of a recipient's domain as far as it is known without DNS, else ''.

    Args:
        domain: in any case, with or without the final dot.
        named: sites that the node's spec names, where those that are domains count too (`limiting_sites`).
    """
    plain = _plain(domain)
    return plain if plain in named else _BY_DOMAIN.get(plain, "")


def of_hosts(hosts: Sequence[str], named: Collection[str] = ()) -> str:
    """The site that a domain's MX hosts make; '' without hosts.

    One host of a named site is enough: the mail may go there, so that site's limits hold. Where several fit, the first
    by name. Without one, `mx:` and the hosts, so that domains with the same MX set are one site; long sets are cut.
    """
    plain = sorted({_plain(host) for host in hosts})
    known = [site for host in plain if (site := _of_host(host, named))]
    return min(known) if known else _rolled_up(plain)


def limits_of(site: str, spec: Mapping[str, Any]) -> SiteLimits:
    """What a node may do at a site: the table, if it delivers directly, and what its spec overrides.

    Args:
        site: what `by_domain` or `of_hosts` gave; '' has no limits.
        spec: the node's, as the mirror holds it (camelCase).
    """
    if not site:
        return SiteLimits()
    entry = _entries(spec).get(DEFAULT if is_rolled_up(site) else site) or {}
    given = {_CAMEL[name]: int(value) for name, value in entry.items() if name in _CAMEL and value is not None}
    base = _table_limits(site) if _direct(spec) else SiteLimits()
    return replace(base, **given)


def limiting_sites(spec: Mapping[str, Any]) -> frozenset[str]:
    """The named sites that limit a node's mail: their mail has routes of its own."""
    listed = _entries(spec).keys() - {DEFAULT}
    return frozenset(listed | _NAMED.keys() if _direct(spec) else listed)


def needs_hosts(spec: Mapping[str, Any]) -> bool:
    """Whether a node's mail is limited by site at all, so that MX hosts are worth asking for."""
    return _direct(spec) or bool(_entries(spec))


def is_rolled_up(site: str) -> bool:
    """Whether a site has no name but its MX hosts."""
    return site.startswith(ROLLED_UP)


def label(site: str) -> str:
    """A site as metrics call it: of those without a name there is no end."""
    return "other" if is_rolled_up(site) else site


def _direct(spec: Mapping[str, Any]) -> bool:
    return bool((spec.get("smtp") or {}).get("host") == "mx")


def _entries(spec: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    return {entry["name"]: entry for entry in (spec.get("limits") or {}).get("sites") or ()}


def _table_limits(site: str) -> SiteLimits:
    return _NAMED[site].limits if site in _NAMED else OTHERS


def _plain(name: str) -> str:
    return name.strip().rstrip(".").lower()


def _of_host(host: str, named: Collection[str]) -> str:
    """The most specific domain that the host lies under decides."""
    labels = host.split(".")
    for start in range(len(labels)):
        under = ".".join(labels[start:])
        if under in named:
            return under
        if site := _BY_HOST.get(under):
            return site
    return ""


def _rolled_up(hosts: Sequence[str]) -> str:
    if not hosts:
        return ""
    whole = ROLLED_UP + ",".join(hosts)
    if len(whole) <= LONGEST:
        return whole
    digest = hashlib.sha256(whole.encode()).hexdigest()[:8]
    return f"{whole[: LONGEST - 9]}~{digest}"
