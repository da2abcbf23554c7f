"""Nodes that get in each other's way: one name in two namespaces, one account or identity used by two nodes. Pure.

The older node is right; what is said here is always about the younger one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

from postfleet_operator.cluster import BrokenNode
from postfleet_operator.conditions import Problem
from postfleet_operator.reachability import on_loopback
from postfleet_operator.reasons import Reason
from postfleet_operator.spec import SendingNode

AnyNode = TypeVar("AnyNode", bound=SendingNode | BrokenNode)


def older_first(nodes: Iterable[AnyNode]) -> list[AnyNode]:
    """By age; those of one second by name, so that the order is always the same."""
    return sorted(nodes, key=lambda node: (node.metadata.created_at, node.key))


def namesakes(nodes: Iterable[SendingNode | BrokenNode]) -> dict[str, Problem]:
    """By key, the nodes whose name an older node of another namespace has: the database knows names alone."""
    return {
        younger: Problem(
            Reason.NAME_TAKEN,
            f"SendingNode {older} has this name, and the database knows names alone: rename one of the two",
        )
        for younger, older in _pairs(nodes, lambda node: node.metadata.name)
    }


def doubles(nodes: Iterable[SendingNode], usernames: Mapping[str, str]) -> dict[str, Problem]:
    """By key, the nodes that log in as an older one does, or send in the name of its domain through its host.

    `usernames` are the logins that are known, by node key. The limits of such two nodes hold for each of them, so the
    provider sees their sum. A server on loopback is another one for every worker. Nodes that deliver directly are
    told apart by domain and addresses.
    """
    given = [node for node in nodes if not on_loopback(node.spec.smtp.host)]
    relayed = [node for node in given if not node.spec.smtp.direct]

    def account(node: SendingNode) -> object:
        smtp, secret = node.spec.smtp, node.spec.smtp.credentials_secret_ref
        unread = "" if secret is None else f"{node.metadata.namespace}/{secret.name}"
        return smtp.host.lower(), smtp.port_used, secret is None, usernames.get(node.key, unread)

    def identity(node: SendingNode) -> object:
        own = node.spec.identity
        addresses = frozenset(own.ip_addresses) if node.spec.smtp.direct else frozenset()
        return node.spec.smtp.host.lower(), own.domain.lower(), addresses

    found = {
        younger: Problem(
            Reason.SAME_IDENTITY,
            f"SendingNode {older} sends through the same host for the same identity.domain: the limits of the two "
            "add up, make them one node",
        )
        for younger, older in _pairs(given, identity)
    }
    return found | {
        younger: Problem(
            Reason.SAME_LOGIN,
            f"SendingNode {older} uses the same SMTP server with the same login: the limits of the two add up, "
            "make them one node or give each a login of its own",
        )
        for younger, older in _pairs(relayed, account)
    }


def _pairs(nodes: Iterable[AnyNode], mark: Callable[[AnyNode], object]) -> Iterable[tuple[str, str]]:
    """Each node whose mark an older one has, with that one; both by key."""
    first: dict[object, str] = {}
    for node in older_first(nodes):
        older = first.setdefault(mark(node), node.key)
        if older != node.key:
            yield node.key, older
