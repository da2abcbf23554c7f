"""Sessions with recipients' own servers: each host of a destination, and each of its addresses, until one lets us in.

Only the opening goes from server to server. A mail that was offered to one is never offered to the next in the same
attempt: what happens to it is the outcome's business.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator, Sequence
from ipaddress import ip_address
from zlib import crc32

from postfleet_workers.mail.errors import NowhereToGo, SmtpFault, TlsFailed, Unreachable
from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.replies.reply import Phase, Reply
from postfleet_workers.mail.smtp.absences import Absences
from postfleet_workers.mail.smtp.mx import FAMILIES, IPV4, IPV6, Addresses, addresses
from postfleet_workers.mail.smtp.opening import Server, open_session
from postfleet_workers.mail.smtp.resolver import Resolver, Unresolved
from postfleet_workers.mail.smtp.session import SmtpSession, Timeouts

MOST_TRIES = 6
MOST_SAID = 400


class Direct:
    """Opens sessions with recipients' servers; used by all threads of a process.

    Args:
        resolver: asked for addresses; one that remembers (`CachedResolver`).
        timeouts: how long to wait.
        tls: what to trust where a node requires TLS.
        monotonic: a monotonic clock, in seconds.
        jitter: uniform in [0, 1).
        local: let servers be at loopback addresses, for tests.
    """

    def __init__(
        self,
        resolver: Resolver,
        timeouts: Timeouts,
        *,
        tls: ssl.SSLContext,
        monotonic: Callable[[], float],
        jitter: Callable[[], float],
        local: bool = False,
    ) -> None:
        self._resolver = resolver
        self._timeouts = timeouts
        self._tls = tls
        self._absences = Absences(monotonic, jitter)
        self._local = local

    def open(self, node: NodeSpec, hosts: Sequence[str]) -> SmtpSession:
        """A session with the first server that lets us in.

        Raises:
            Unreachable: none does; `remembered` when none was asked, because all were away a moment ago.
            NowhereToGo: they have no address that could take mail.
            AddressMissing: the node's mail is to leave from an address that is not this machine's.
        """
        faults: list[SmtpFault] = []
        for server in self._servers(node, hosts, faults):
            who = (node.name, server.address, server.port)
            if reason := self._absences.of(who):
                faults.append(_remembered(server, reason))
                continue
            if sum(not fault.remembered for fault in faults) >= MOST_TRIES:
                break
            try:
                session = open_session(
                    server, node, source=source(node, server.address), timeouts=self._timeouts, tls=self._tls
                )
            except (Unreachable, TlsFailed) as fault:
                self._absences.note(who, str(fault))
                faults.append(fault)
            else:
                self._absences.forget(who)
                return session
        raise _of_all(faults) if faults else self._nowhere(node, hosts)

    def _nowhere(self, node: NodeSpec, hosts: Sequence[str]) -> SmtpFault:
        names = ", ".join(hosts)
        if families_of(node) != FAMILIES:
            text = f"no address of {names} is of a kind that node {node.name} sends from ({', '.join(node.addresses)})"
            return Unreachable(Phase.CONNECT, text)
        text = f"no address that could take mail: {names}"
        return NowhereToGo(Phase.CONNECT, text, Reply(550, "5.1.2", text))

    def _servers(self, node: NodeSpec, hosts: Sequence[str], faults: list[SmtpFault]) -> Iterator[Server]:
        families = families_of(node)
        for host in hosts:
            match addresses(host, self._resolver, families, local=self._local):
                case Unresolved(reason=reason):
                    faults.append(Unreachable(Phase.CONNECT, f"address of {host}: {reason}", host=host))
                case Addresses(of=found):
                    for address in found:
                        yield Server(host, node.port, address)


def families_of(node: NodeSpec) -> tuple[str, ...]:
    """The kinds of addresses that the node's mail can leave from: those of its own, or any."""
    own = {IPV4 if ip_address(address).version == 4 else IPV6 for address in node.addresses}
    return tuple(family for family in FAMILIES if not own or family in own)


def source(node: NodeSpec, server: str) -> str:
    """The node's address to connect from: of the server's family, and for one server always the same (greylisting)."""
    version = ip_address(server).version
    own = [address for address in node.addresses if ip_address(address).version == version]
    return own[crc32(server.encode()) % len(own)] if own else ""


def _remembered(server: Server, reason: str) -> Unreachable:
    fault = Unreachable(Phase.CONNECT, f"{reason} (a moment ago)", host=server.host)
    fault.remembered = True
    return fault


def _of_all(faults: Sequence[SmtpFault]) -> Unreachable:
    """One fault for all: what the last server that was asked did, and in words what each did."""
    last = next((fault for fault in reversed(faults) if not fault.remembered), faults[-1])
    text = "; ".join(dict.fromkeys(str(fault) for fault in faults))[:MOST_SAID]
    one = Unreachable(last.phase, text, last.reply, last.host)
    one.remembered = last.remembered
    return one
