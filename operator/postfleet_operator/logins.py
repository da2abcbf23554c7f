"""Brings each set of workers the keys of the nodes that it serves, and takes them away again: one Secret per set.

Keys are logins and DKIM's private keys.

A node that is served elsewhere from now on, or is gone, keeps its files where they were until the workers there must
have heard of it: they read the mirror every few seconds, and what they have begun they finish.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from postfleet_operator.cluster import BrokenNode, Cluster
from postfleet_operator.conditions import Problem
from postfleet_operator.credentials import (
    MOST_BYTES,
    Credentials,
    Keys,
    by_node,
    fit,
    gather,
    references,
    render_secret,
    serves,
)
from postfleet_operator.deployment import nodes_secret
from postfleet_operator.errors import ClusterUnavailable, NameTaken, NotLeader, OperatorError
from postfleet_operator.reasons import Reason
from postfleet_operator.rounds import due
from postfleet_operator.spec import SendingNode
from postfleet_operator.workerset import WorkerSet

log = structlog.get_logger(__name__)

LINGER_SECONDS = 15.0
RETRY_SECONDS = 10.0
# What nobody is known to have changed is compared again this often, in case somebody has.
CHECK_SECONDS = 300.0
CHECKS_PER_TICK = 50
# With hundreds of pools and nodes it takes a while to see that nothing is to be done.
QUIET_SECONDS = 60.0


@dataclass(slots=True)
class _Delivered:
    """What a set's Secret holds: files by node name, and the manifest, once it was applied or found so.

    `heard` counts the changes of the Secret that were heard of, `touched` is that there were some since the last look.
    """

    files: dict[str, dict[str, str]] = field(default_factory=dict)
    manifest: Mapping[str, Any] | None = None
    retry_at: float = 0.0
    checked_at: float | None = None
    heard: int = 0
    touched: bool = False
    problem: Problem | None = None


class Logins:
    """Delivers. Remembers what every set has, and each Secret as it was read last."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._secrets: dict[tuple[str, str], Mapping[str, str] | None] = {}
        self._failures: dict[tuple[str, str], str] = {}
        self._delivered: dict[str, _Delivered] = {}
        self._checks = 0
        self._asked: object = None
        self._problems: dict[str, Problem] = {}
        self._quiet_until = 0.0

    def read(self, nodes: Sequence[SendingNode]) -> Credentials:
        """The keys of `nodes` as their Secrets have them now; a Secret that cannot be read stays as it was.

        Raises:
            NotLeader: somebody else acts.
        """
        places = dict.fromkeys(each.place for node in nodes for each in references(node))
        self._secrets = {place: content for place, content in self._secrets.items() if place in places}
        self._failures = {}
        for place in places:
            try:
                self._secrets[place] = self._cluster.secret(*place)
            except NotLeader:
                raise
            except OperatorError as error:
                self._failures[place] = str(error)
        return gather(nodes, self._secrets, self._failures)

    def deliver(
        self,
        sets: Sequence[WorkerSet],
        nodes: Sequence[SendingNode],
        keys: Mapping[str, Keys],
        broken: Sequence[BrokenNode],
        mirrored_at: float | None,
        now: float,
    ) -> dict[str, Problem]:
        """Make every set's Secret so; what went wrong, by node key.

        Args:
            sets: all that there are.
            nodes: those that are mirrored, the oldest first: where not all fit into one Secret, the younger stay out.
            keys: theirs, by the node's key.
            broken: nodes that cannot be read: what workers have of them stays.
            mirrored_at: since when the database has known the nodes as they are now; None: it does not.
            now: epoch seconds.

        Raises:
            NotLeader: somebody else acts.
        """
        settled = mirrored_at is not None and now >= mirrored_at + LINGER_SECONDS
        kept = {node.metadata.name for node in broken}
        heard = {each.key: self._cluster.secret_changes(each.namespace, nodes_secret(each)) for each in sets}
        asked = (
            {(each.key, each.pool.metadata.uid) for each in sets},
            [(node.key, node.metadata.uid, node.metadata.generation) for node in nodes],
            dict(keys),
            kept,
            settled,
            heard,
        )
        if asked == self._asked and not due(now, self._quiet_until, QUIET_SECONDS):
            return self._problems
        self._checks = 0
        self._delivered = {each.key: self._delivered.get(each.key) or _Delivered() for each in sets}
        by_namespace: dict[str, list[SendingNode]] = {}
        for node in nodes:
            by_namespace.setdefault(node.metadata.namespace, []).append(node)
        problems: dict[str, Problem] = {}
        for workers in sets:
            served = [node for node in by_namespace.get(workers.namespace, ()) if serves(workers, node)]
            files, left_out = fit(served, keys)
            names = {node.name for node in served}
            self._hear(workers, heard[workers.key])
            self._bring(workers, files, names, kept if settled else None, now)
            problems |= dict.fromkeys(left_out, _too_large(workers))
            if (problem := self._delivered[workers.key].problem) is not None:
                problems |= {node.key: problem for node in served if node.key in keys}
        retries = [each.retry_at for each in self._delivered.values() if each.retry_at > now]
        retries += [now + RETRY_SECONDS for each in self._delivered.values() if each.touched]
        self._asked, self._problems, self._quiet_until = asked, problems, min([now + QUIET_SECONDS, *retries])
        return problems

    def _hear(self, workers: WorkerSet, changes: int) -> None:
        """The Secret was touched, made or deleted, or the one that was in its way was: look at it now."""
        own = self._delivered[workers.key]
        if own.heard != changes:
            own.heard, own.touched, own.retry_at = changes, True, 0.0

    def _bring(
        self,
        workers: WorkerSet,
        files: dict[str, dict[str, str]],
        names: Collection[str],
        kept: Collection[str] | None,
        now: float,
    ) -> None:
        """`names` are the nodes that the set serves; of others it keeps the files of `kept`, or all (None)."""
        own = self._delivered[workers.key]
        if not due(now, own.retry_at, RETRY_SECONDS):
            return
        try:
            found = self._seen(workers, own, now)
            leaving = {
                name: had for name, had in own.files.items() if name not in names and (kept is None or name in kept)
            }
            wanted = {**leaving, **files}
            content = {name: value for each in wanted.values() for name, value in each.items()}
            manifest = render_secret(workers, content)
            if found != content and manifest != own.manifest:
                self._cluster.apply_secret(workers, manifest)
            own.files, own.manifest, own.problem = wanted, manifest, None
        except NotLeader:
            raise
        except OperatorError as error:
            own.retry_at = now + RETRY_SECONDS
            log.warning("logins_not_delivered", workers=workers.key, error=str(error))
            own.problem = _refused(error)

    def _seen(self, workers: WorkerSet, own: _Delivered, now: float) -> Mapping[str, str] | None:
        """Like `_look`. What was delivered counts as still there while nobody can look."""
        try:
            return self._look(workers, own, now)
        except NotLeader:
            raise
        except OperatorError:
            if own.manifest is None:
                raise
            return None

    def _look(self, workers: WorkerSet, own: _Delivered, now: float) -> Mapping[str, str] | None:
        """What the Secret holds, when it is time to compare; None otherwise."""
        if own.checked_at is not None and not own.touched:
            if not due(now, own.checked_at + CHECK_SECONDS, CHECK_SECONDS) or self._checks >= CHECKS_PER_TICK:
                return None
            self._checks += 1
        found = self._cluster.secret(workers.namespace, nodes_secret(workers)) or {}
        if own.checked_at is None:
            own.files = by_node(found)
        elif own.manifest is not None and found != own.manifest["stringData"]:
            own.manifest = None
        own.checked_at, own.touched = now, False
        return found


def _too_large(workers: WorkerSet) -> Problem:
    most = MOST_BYTES // 1024
    return Problem(
        Reason.SECRET_TOO_LARGE,
        f"the keys of all nodes that JobPool {workers.pool.name} sends for take more than {most} KiB, so this one is "
        "left out: give some of them another pool in spec.workers.poolRef",
    )


def _refused(error: OperatorError) -> Problem:
    match error:
        case NameTaken():
            reason = Reason.NAME_TAKEN
        case ClusterUnavailable():
            reason = Reason.CLUSTER_UNAVAILABLE
        case _:
            reason = Reason.REJECTED
    return Problem(reason, f"the Secret for its workers could not be written: {error}")
