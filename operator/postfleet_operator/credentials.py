"""The files with keys that workers see: `<node>.username` and `<node>.password`, and `<node>.dkim`. Pure.

They are the content of one Secret per worker set, mounted as a folder: only what the nodes that the set serves log in
and sign with. Such keys go nowhere else.
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

USERNAME, PASSWORD, DKIM = "username", "password", "dkim"
# Kubernetes refuses a Secret of more than 1 MiB; the rest is for its own fields.
MOST_BYTES = 900 * 1024

Secrets = Mapping[tuple[str, str], Mapping[str, str] | None]
"""Decoded content by (namespace, name); None: there is none."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A Secret that a node names in `field`. `parts` are what is taken from it: the key by the file's last part."""

    field: str
    namespace: str
    name: str
    parts: Mapping[str, str]

    @property
    def place(self) -> tuple[str, str]:
        """(namespace, name)."""
        return self.namespace, self.name


@dataclass(frozen=True, slots=True)
class Keys:
    """What a node logs in and signs with, by the last part of the file's name. Never shows its values."""

    parts: Mapping[str, str] = field(repr=False)

    @property
    def username(self) -> str | None:
        """Whom it logs in as, if it does."""
        return self.parts.get(USERNAME)

    def files(self, node: str) -> dict[str, str]:
        """As the workers of `node` see it."""
        return {f"{node}.{part}": value for part, value in self.parts.items()}


@dataclass(frozen=True, slots=True)
class Credentials:
    """What could be put together, and what is missing, by node key. A node that needs no keys is in neither."""

    keys: Mapping[str, Keys] = field(default_factory=dict)
    problems: Mapping[str, Problem] = field(default_factory=dict)


def gather(
    nodes: Iterable[SendingNode], secrets: Secrets, failures: Mapping[tuple[str, str], str] | None = None
) -> Credentials:
    """The keys of `nodes`.

    A node of which a Secret or a part is missing has none, so that its workers see no half of a login and send nothing
    unsigned.

    Args:
        nodes: whose.
        secrets: what they refer to, as far as it could be read.
        failures: why the rest could not.
    """
    keys: dict[str, Keys] = {}
    problems: dict[str, Problem] = {}
    for node in nodes:
        named = references(node)
        missing = next((found for each in named if (found := _lacking(each, secrets, failures or {}))), None)
        if missing is not None:
            problems[node.key] = missing
        elif named:
            keys[node.key] = Keys(
                {part: (secrets[each.place] or {})[key] for each in named for part, key in each.parts.items()}
            )
    return Credentials(keys, problems)


def references(node: SendingNode) -> tuple[Reference, ...]:
    """The Secrets that a node names: of its login, and of its DKIM key."""
    namespace, login, dkim = node.metadata.namespace, node.spec.smtp.credentials_secret_ref, node.spec.identity.dkim
    found = []
    if login is not None:
        parts = {part: part for part in (USERNAME, PASSWORD)}
        found.append(Reference("spec.smtp.credentialsSecretRef", namespace, login.name, parts))
    if dkim is not None:
        key = dkim.private_key_secret_ref
        found.append(Reference("spec.identity.dkim.privateKeySecretRef", namespace, key.name, {DKIM: key.key}))
    return tuple(found)


def _lacking(reference: Reference, secrets: Secrets, failures: Mapping[tuple[str, str], str]) -> Problem | None:
    name, place = reference.name, reference.place
    if place not in secrets:
        why = failures.get(place, "it has not been read yet")
        return Problem(Reason.CLUSTER_UNAVAILABLE, f"Secret {name} cannot be read: {why}")
    if (content := secrets[place]) is None:
        words = f"{reference.field}: there is no Secret {name} in namespace {reference.namespace}, create it"
        return Problem(Reason.SECRET_MISSING, words)
    if absent := [key for key in reference.parts.values() if key not in content]:
        words = f"{reference.field}: Secret {name} lacks {' and '.join(absent)}, add it"
        return Problem(Reason.SECRET_KEY_MISSING, words)
    return None


def serves(workers: WorkerSet, node: SendingNode) -> bool:
    """Whether the set's workers send for the node."""
    if workers.node is not None:
        return workers.node.key == node.key
    pool = node.spec.workers.pool_ref
    same_namespace = workers.namespace == node.metadata.namespace
    return same_namespace and not is_dedicated(node) and (pool is None or pool.name == workers.pool.name)


def fit(nodes: Iterable[SendingNode], keys: Mapping[str, Keys]) -> tuple[dict[str, dict[str, str]], list[str]]:
    """The files of as many of `nodes` as one Secret can hold, by node name, and the keys of those it cannot."""
    files: dict[str, dict[str, str]] = {}
    left_out, room = [], MOST_BYTES
    for node in nodes:
        if (given := keys.get(node.key)) is None:
            continue
        own = given.files(node.name)
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
