"""Leases of open SMTP sessions: `maxConnections` holds over the cluster. The seam; see `redis` and `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class SessionLeases(Protocol):
    """Who may hold a connection to a node. Every method raises PipeUnavailable when Redis does not answer.

    A lease ends by itself after `lease_seconds` on the server's clock; renew every third of that. After Redis lost its
    data new sessions wait for one lease time, in which the holders' renewals register what is really open.
    """

    lease_seconds: float

    def acquire(self, node: str, maximum: int, session_id: str) -> bool:
        """Lease one of the node's `maximum` sessions. False: none is free, or holders are still registering."""

    def registering(self) -> bool:
        """Whether no new session is leased now because holders may still have to register theirs."""

    def renew(self, sessions: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
        """Extend the leases of `(node, session_id)` pairs, in one round trip.

        Returns:
            The pairs whose lease has lapsed and went to someone else's account: close those connections.
        """

    def release(self, node: str, session_id: str) -> None:
        """Give a lease back; releasing what is not held does nothing."""
