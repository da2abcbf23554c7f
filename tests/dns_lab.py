"""A name server for tests: answers on a UDP socket from a zone that tests change as they go."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress

import dns.exception
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset

SILENT = "silent"
SERVFAIL = "SERVFAIL"
REFUSED = "REFUSED"


class DnsLab:
    """Names that are not in the zone do not exist; types that are not there are absent.

    Attributes:
        zone: records by name and type, or one of SILENT, SERVFAIL, REFUSED. Changed by `say`.
        asked: the questions, in order.
        server: where it listens, as POSTFLEET_DNS_SERVERS takes it.
    """

    def __init__(self, ttl_seconds: int = 300) -> None:
        self.zone: dict[tuple[str, str], Sequence[str] | str] = {}
        self.asked: list[tuple[str, str]] = []
        self.ttl_seconds = ttl_seconds
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.server = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self._stopping = False
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def say(self, name: str, kind: str, *records: str) -> None:
        """Answer these records for a name and a type; or do as the one word SILENT, SERVFAIL or REFUSED says."""
        self.zone[name, kind] = records[0] if records in {(SILENT,), (SERVFAIL,), (REFUSED,)} else records

    def mx(self, domain: str, *hosts: tuple[int, str, str]) -> None:
        """Servers of a domain, each with preference, name and address."""
        self.say(domain, "MX", *(f"{preference} {host}." for preference, host, _ in hosts))
        for _, host, address in hosts:
            self.say(host, "A", address)

    def stop(self) -> None:
        self._stopping = True
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as waker:
            waker.sendto(b"", self._socket.getsockname())
        self._thread.join(5)
        self._socket.close()

    def _listen(self) -> None:
        while True:
            octets, asker = self._socket.recvfrom(4096)
            if self._stopping:
                return
            with suppress(OSError, dns.exception.DNSException):
                answer = self._answer(dns.message.from_wire(octets))
                if answer is not None:
                    self._socket.sendto(answer.to_wire(), asker)

    def _answer(self, query: dns.message.Message) -> dns.message.Message | None:
        question = query.question[0]
        name, kind = question.name.to_text(omit_final_dot=True).lower(), dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        answer = dns.message.make_response(query, recursion_available=True)
        said = self.zone.get((name, kind))
        if said == SILENT:
            return None
        if isinstance(said, str):
            answer.set_rcode(dns.rcode.from_text(said))
        elif said:
            answer.answer.append(dns.rrset.from_text(question.name, self.ttl_seconds, "IN", kind, *said))
        elif not any(known == name for known, _ in self.zone):
            answer.set_rcode(dns.rcode.NXDOMAIN)
        return answer
