"""The files with SMTP credentials that workers see: `<node>.username` and `<node>.password`. Pure.

They are the content of one Secret per worker set, mounted as a folder: only the logins of the nodes that the set
serves. Credentials go nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from postfleet_operator.conditions import Problem
from postfleet_operator.deployment import labels, nodes_secret, owner_references
from postfleet_operator.reasons import Reason
from postfleet_operator.spec import SendingNode
from postfleet_operator.workerset import WorkerSet, is_dedicated

USERNAME, PASSWORD = KEYS = ("username", "password")
# Kubernetes refuses a Secret of more than 1 MiB; the rest is for its own fields.
MOST_BYTES = 900 * 1024

Secrets = Mapping[tuple[str, str], Mapping[str, str] | None]
"""Decoded content by (namespace, name); None: there is none."""


@dataclass(frozen=True, slots=True)
class Login:
    """What a node logs in with. Never shows its values."""

    username: str = field(repr=False)
    password: str = field(repr=False)

    def files(self, node: str) -> dict[str, str]:
        """As the workers of `node` see it."""
        return {f"{node}.{USERNAME}": self.username, f"{node}.{PASSWORD}": self.password}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What could be put together, and what is missing, by node key. A node that needs no login is in neither."""

    logins: Mapping[str, Login] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)


def gather(
    nodes: Iterable[SendingNode], secrets: Secrets, failures: Mapping[tuple[str, str], str] | None = None
) -> Credentials:
    """The logins of `nodes`.

    A node whose Secret is missing or lacks a key has none, so that its workers see no half of a login.

    Args:
        nodes: whose.
        secrets: what they refer to, as far as it could be read.
        failures: why the rest could not.
    """
    logins: dict[str, Login] = {}
    problems: dict[str, Problem] = {}
    for node in nodes:
        if (place := reference(node)) is None:
            continue
        namespace, name = place
        if place not in secrets:
            why = (failures or {}).get(place, "it has not been read yet")
            problems[node.key] = Problem(Reason.CLUSTER_UNAVAILABLE, f"Secret {name} cannot be read: {why}")
        elif (content := secrets[place]) is None:
            problems[node.key] = Problem(
                Reason.SECRET_MISSING,
                f"spec.smtp.credentialsSecretRef: there is no Secret {name} in namespace {namespace}, create it",
            )
        elif lacking := [key for key in KEYS if key not in content]:
            problems[node.key] = Problem(
                Reason.SECRET_KEY_MISSING,
                f"spec.smtp.credentialsSecretRef: Secret {name} lacks {' and '.join(lacking)}, add it",
            )
        else:
            logins[node.key] = Login(content[USERNAME], content[PASSWORD])
    return Credentials(logins, problems)


def reference(node: SendingNode) -> tuple[str, str] | None:
    """(namespace, name) of the Secret with the node's login; None for a node without one."""
    given = node.spec.smtp.credentials_secret_ref
    return None if given is None else (node.metadata.namespace, given.name)


def serves(workers: WorkerSet, node: SendingNode) -> bool:
    """Whether the set's workers log in for the node."""
    if workers.node is not None:
        return workers.node.key == node.key
    pool = node.spec.workers.pool_ref
    same_namespace = workers.namespace == node.metadata.namespace
    return same_namespace and not is_dedicated(node) and (pool is None or pool.name == workers.pool.name)


def fit(nodes: Iterable[SendingNode], logins: Mapping[str, Login]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The files of as many of `nodes` as one Secret can hold, by node name, and the keys of those it cannot."""
    files: dict[str, dict[str, str]] = {}
    left_out, room = [], MOST_BYTES
    for node in nodes:
        if (login := logins.get(node.key)) is None:
            continue
        own = login.files(node.name)
        size = sum(len(name.encode()) + len(value.encode()) for name, value in own.items())
        if size <= room:
            files[node.name] = own
            room -= size
        else:
            left_out.append(node.key)
    return files, left_out


def by_node(files: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The content of a rendered Secret, by node name."""
    found: dict[str, dict[str, str]] = {}
    for name, value in files.items():
        found.setdefault(name.rpartition(".")[0], {})[name] = value
    return found


def render_secret(workers: WorkerSet, files: Mapping[str, str]) -> dict[str, Any]:
    """The Secret that the set's Deployment mounts."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "name": nodes_secret(workers),
            "namespace": workers.namespace,
            "labels": labels(workers),
            "ownerReferences": owner_references(workers.pool),
        },
        "type": "Opaque",
        "stringData": dict(files),
    }
