"""Where a mail goes: the servers that take its recipient's mail, and the site that they belong to.

Mail of a node that hands everything to one server of ours goes there; the site says only whose limits it counts
against. Mail of a direct node goes to the servers named here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from postfleet_workers.mail.node import NodeSpec
from postfleet_workers.mail.reply import Reply


@dataclass(frozen=True, slots=True)
class Destination:
    """Where a recipient's mail goes.

    Attributes:
        site: the receiving side that limits apply to; '' where it is not known, or nothing is limited by it.
        hosts: its servers, the preferred ones first; empty: the node's own server takes it.
    """

    site: str = ""
    hosts: tuple[str, ...] = ()


class Exchanges(Protocol):
    """Finds destinations, and remembers them; used by all threads of a process."""

    def of(self, node: NodeSpec, domain: str) -> Destination | Reply:
        """Where mail of the node goes for recipients of a domain (lower case, ASCII).

        Returns:
            The destination; or, where there is none, a reply as a server would give it: a domain that takes no mail
            (RFC 7505) or does not exist, a name server that did not answer.
        """
