"""Leases of open SMTP sessions: `maxConnections` holds over the cluster. The seam; see `redis` and `memory`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

Place = tuple[str, int]  # what a session counts against, and how many there may be


class SessionLeases(Protocol):
    """Who may hold a connection. Every method raises PipeUnavailable when Redis does not answer.

    A session counts against every one of its places: its node, and its node at a site (`<node>|<site>`). A lease ends
    by itself after `lease_seconds` on the server's clock; renew every third of that. After Redis lost its data new
    sessions wait for one lease time, in which the holders' renewals register what is really open.
    """

    lease_seconds: float

    def acquire(self, places: Sequence[Place], session_id: str) -> bool:
        """Lease one session of every place, or of none.

        False: one of them has its maximum, or holders are still registering.
        """

    def registering(self) -> bool:
        """Whether no new session is leased now because holders may still have to register theirs."""

    def renew(self, sessions: Sequence[tuple[Sequence[str], str]]) -> list[tuple[Sequence[str], str]]:
        """Extend the leases of `(places, session_id)` pairs, in one round trip.

        Returns:
            The pairs whose lease has lapsed and went to someone else's account: close those connections.
        """

    def release(self, places: Sequence[str], session_id: str) -> None:
        """Give a lease back; releasing what is not held does nothing."""


def at_site(node: str, site: str) -> str:
    """The place of a node's sessions with a site."""
    return f"{node}|{site}"
