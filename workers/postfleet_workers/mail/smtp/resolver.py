"""Names looked up in the DNS, as values: found, absent or unresolved. The seam, the real thing, and its twin.

`CachedResolver` is what a process uses: an answer is kept by its TTL, within bounds, and threads that want the same
name ask once.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Protocol
from urllib.parse import urlsplit

import dns.exception
import dns.name
import dns.nameserver
import dns.resolver

from postfleet_workers.errors import InputError

SHORTEST_SECONDS = 60.0
LONGEST_SECONDS = 3600.0
ABSENT_SECONDS = 60.0
UNRESOLVED_SECONDS = 15.0  # long enough that a bundle's mails to one domain do not wait one by one (RFC 2308 7.1)
KEPT = 10_000
ANSWER_SECONDS = 10.0
PORT = 53


@dataclass(frozen=True, slots=True)
class Found:
    """Records in the text form of zone files, names with their final dot: `10 mx1.example.`, `192.0.2.1`."""

    records: tuple[str, ...]
    ttl_seconds: float = SHORTEST_SECONDS


@dataclass(frozen=True, slots=True)
class Absent:
    """The name server said so: no such record, or not even such a name (`name_exists` False, NXDOMAIN)."""

    name_exists: bool


@dataclass(frozen=True, slots=True)
class Unresolved:
    """Nobody knows: no answer in time, SERVFAIL, REFUSED. `reason` is for people."""

    reason: str


Answer = Found | Absent | Unresolved


class Resolver(Protocol):
    """Looks names up; used by all threads of a process."""

    def look_up(self, name: str, kind: str) -> Answer:
        """The records of a name; `kind` is their type, as `MX`."""


class DnsResolver:
    """Asks name servers, each time.

    Args:
        servers: `address` or `address:port`, an IPv6 address in brackets; comma-separated. '' asks the system's.

    Raises:
        InputError: a server is no address.
    """

    def __init__(self, servers: str = "") -> None:
        self._resolver = dns.resolver.Resolver(configure=False)
        if servers:
            self._resolver.nameservers = [_server(server.strip()) for server in servers.split(",")]
        else:
            with suppress(dns.resolver.NoResolverConfiguration):  # then every answer is `Unresolved`
                self._resolver = dns.resolver.Resolver()
        self._resolver.lifetime = ANSWER_SECONDS

    def look_up(self, name: str, kind: str) -> Answer:
        """See `Resolver`."""
        try:
            found = self._resolver.resolve(name, kind, search=False, raise_on_no_answer=False)
        except (dns.resolver.NXDOMAIN, dns.name.NameTooLong, dns.exception.SyntaxError):
            return Absent(name_exists=False)
        except (dns.exception.DNSException, OSError) as error:
            return Unresolved(_reason(error))
        if found.rrset is None:
            return Absent(name_exists=True)
        return Found(tuple(record.to_text() for record in found.rrset), found.rrset.ttl)


class MemoryResolver:
    """A `Resolver` for tests and simulations; `asked` are the questions, in order.

    Args:
        zone: records by name and type; a name that is not there at all does not exist. `Unresolved` stands for itself.
    """

    def __init__(self, zone: Mapping[tuple[str, str], Sequence[str] | Unresolved]) -> None:
        self.zone = dict(zone)
        self.ttl_seconds = SHORTEST_SECONDS
        self.asked: list[tuple[str, str]] = []

    def look_up(self, name: str, kind: str) -> Answer:
        """See `Resolver`."""
        self.asked.append((name, kind))
        match self.zone.get((name, kind)):
            case Unresolved() as unresolved:
                return unresolved
            case None:
                return Absent(name_exists=any(known == name for known, _ in self.zone))
            case records:
                return Found(tuple(records), self.ttl_seconds)


class CachedResolver:
    """Remembers what another resolver answered; at most `KEPT` answers, the longest unused forgotten first.

    Args:
        resolver: who is asked.
        monotonic: a monotonic clock, in seconds.
    """

    def __init__(self, resolver: Resolver, monotonic: Callable[[], float]) -> None:
        self._resolver = resolver
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], tuple[Answer, float]] = OrderedDict()
        self._asking: dict[tuple[str, str], Future[Answer]] = {}

    def look_up(self, name: str, kind: str) -> Answer:
        """See `Resolver`."""
        question = (name, kind)
        with self._lock:
            if (known := self._kept.get(question)) and known[1] > self._monotonic():
                self._kept.move_to_end(question)
                return known[0]
            asking = self._asking.get(question)
            if asking is None:
                mine = self._asking[question] = Future()
        if asking is not None:
            return asking.result()
        try:
            answer = self._resolver.look_up(name, kind)
        except BaseException as error:
            mine.set_exception(error)
            raise
        else:
            self._keep(question, answer)
            mine.set_result(answer)
            return answer
        finally:
            with self._lock:
                del self._asking[question]

    def _keep(self, question: tuple[str, str], answer: Answer) -> None:
        with self._lock:
            self._kept[question] = answer, self._monotonic() + kept_seconds(answer)
            self._kept.move_to_end(question)
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)


def kept_seconds(answer: Answer) -> float:
    """How long an answer is remembered."""
    match answer:
        case Found(ttl_seconds=ttl):
            return min(max(ttl, SHORTEST_SECONDS), LONGEST_SECONDS)
        case Absent():
            return ABSENT_SECONDS
        case Unresolved():
            return UNRESOLVED_SECONDS


def _server(text: str) -> dns.nameserver.Do53Nameserver:
    try:
        parts = urlsplit(f"//{text}")
        return dns.nameserver.Do53Nameserver(str(ip_address(parts.hostname or "")), parts.port or PORT)
    except ValueError:
        raise InputError(
            f"POSTFLEET_DNS_SERVERS: {text!r} is no name server; write address or address:port, as 192.0.2.53:5353"
        ) from None


def _reason(error: Exception) -> str:
    match error:
        case dns.resolver.LifetimeTimeout():
            return "no name server answered in time"
        case dns.resolver.NoNameservers():
            return "no name server could answer (SERVFAIL or REFUSED)"
        case _:
            return str(error) or type(error).__name__
