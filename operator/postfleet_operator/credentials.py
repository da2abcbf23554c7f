"""The files with SMTP credentials that a pool's workers see: `<node>.username` and `<node>.password`. Pure.

They are the content of the Secret `<pool>-nodes`, mounted as a folder. Credentials go nowhere else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from postfleet_operator.deployment import labels, nodes_secret, owner_references
from postfleet_operator.spec import SendingNode
from postfleet_operator.workerset import WorkerSet

KEYS = ("username", "password")


@dataclass(frozen=True, slots=True)
class Credentials:
    """What could be put together: file name -> content, and one line for each thing that is missing."""

    files: Mapping[str, str]
    problems: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"Credentials(files={sorted(self.files)}, problems={self.problems})"


def gather(nodes: Sequence[SendingNode], secrets: Mapping[tuple[str, str], Mapping[str, str]]) -> Credentials:
    """The files for `nodes`; `secrets` maps (namespace, name) to a Secret's decoded content.

    A node without `credentialsSecretRef` needs none. One whose Secret is missing or lacks a key is a problem and
    gets no file, so that its workers see no half of a login.
    """
    files: dict[str, str] = {}
    problems: list[str] = []
    for node in nodes:
        reference = node.spec.smtp.credentials_secret_ref
        if reference is None:
            continue
        title = f"SendingNode {node.name}: spec.smtp.credentialsSecretRef"
        content = secrets.get((node.metadata.namespace, reference.name))
        if content is None:
            problems.append(f"{title}: there is no Secret {reference.name} in namespace {node.metadata.namespace}")
        elif lacking := [key for key in KEYS if key not in content]:
            problems.append(f"{title}: Secret {reference.name} lacks {' and '.join(lacking)}")
        else:
            files |= {f"{node.name}.{key}": content[key] for key in KEYS}
    return Credentials(files, tuple(problems))


def render_secret(workers: WorkerSet, credentials: Credentials) -> dict[str, Any]:
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
        "stringData": dict(credentials.files),
    }
