"""Which servers take a domain's mail (RFC 5321 5.1, RFC 7505), and at which addresses, by a resolver's answers.

An address that can be nobody's mail server (loopback, link-local, multicast, unspecified, reserved) is passed over, and
a domain that has no other takes no mail: such records say just that, or would have us talk to ourselves. Private
addresses are used: inside a company they are mail servers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from itertools import groupby

from postfleet_workers.mail.replies.reply import Reply
from postfleet_workers.mail.smtp.resolver import Absent, Found, Resolver, Unresolved

IPV4, IPV6 = "A", "AAAA"
FAMILIES = (IPV4, IPV6)  # in this order: receivers ask more of mail that comes over IPv6
MOST_HOSTS = 10
_THIS_NETWORK = ip_network("0.0.0.0/8")


@dataclass(frozen=True, slots=True)
class Hosts:
    """The servers that take a domain's mail, in the order in which to try them; never empty."""

    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one server, in the order in which to try them. Empty: it has none that could take mail."""

    of: tuple[str, ...]


def mail_hosts(domain: str, resolver: Resolver, jitter: Callable[[], float]) -> Hosts | Reply:
    """Where mail for a domain goes: its MX hosts by preference, equal ones shuffled, else the domain's own address.

    Args:
        domain: lower case, ASCII.
        resolver: asked for MX, and for addresses when there is none.
        jitter: uniform in [0, 1).

    Returns:
        The hosts; or, where there are none, what a server would say: `556 5.1.10` for a null MX, `550 5.1.2` for a
        domain without any server, `451 4.4.3` when the name server does not answer.
    """
    match resolver.look_up(domain, "MX"):
        case Found(records=records):
            names = _ordered(records, jitter)
            return Hosts(names) if names else Reply(556, "5.1.10", f"{domain} takes no mail (its MX record is null)")
        case Absent(name_exists=True):
            return _itself(domain, resolver)
        case Absent():
            return Reply(550, "5.1.2", f"domain {domain} does not exist")
        case Unresolved(reason=reason):
            return Reply(451, "4.4.3", f"MX of {domain}: {reason}")


def addresses(
    host: str, resolver: Resolver, families: Sequence[str] = FAMILIES, *, local: bool = False
) -> Addresses | Unresolved:
    """The addresses of a server. `local` lets those through that can be nobody's mail server: for tests."""
    found: list[str] = []
    unresolved: Unresolved | None = None
    for family in families:
        match resolver.look_up(host, family):
            case Found(records=records):
                found += [text for text in records if local or takes_mail(ip_address(text))]
            case Unresolved() as failure:
                unresolved = failure
    return unresolved if unresolved and not found else Addresses(tuple(found))


def takes_mail(address: IPv4Address | IPv6Address) -> bool:
    """Whether there can be somebody's mail server at this address."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return not (
        address.is_loopback
        or address.is_link_local
        or address.is_multicast
        or address.is_unspecified
        or (address.is_reserved and address.version == 4)
        or address in _THIS_NETWORK
    )


def _ordered(records: Collection[str], jitter: Callable[[], float]) -> tuple[str, ...]:
    pairs = []
    for record in records:
        preference, _, name = record.partition(" ")
        if host := name.lower().rstrip("."):
            pairs.append((int(preference), host))
    names: list[str] = []
    for _, equals in groupby(sorted(set(pairs)), key=lambda pair: pair[0]):
        names += [name for _, name in sorted((jitter(), name) for _, name in equals)]
    return tuple(dict.fromkeys(names))[:MOST_HOSTS]


def _itself(domain: str, resolver: Resolver) -> Hosts | Reply:
    """A domain without MX takes mail itself, if it has an address (RFC 5321 5.1)."""
    match addresses(domain, resolver, local=True):
        case Addresses(of=()):
            return Reply(550, "5.1.2", f"domain {domain} has no mail server: neither MX nor address")
        case Addresses():
            return Hosts((domain,))
        case Unresolved(reason=reason):
            return Reply(451, "4.4.3", f"address of {domain}: {reason}")
