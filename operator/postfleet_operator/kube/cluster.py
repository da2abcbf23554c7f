"""The operator's `Cluster` on Kubernetes: reads come from the cache, writes go to the API at once.

One field manager for each concern, so that nobody's `kubectl apply` is fought: the template of a Deployment belongs to
one, its number of replicas to another, which gives it up in mode External. Conflicts on these fields are won.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from postfleet_operator.cluster import BrokenNode, BrokenPool, Resource, Stray, Workload
from postfleet_operator.errors import ClusterUnavailable, Conflict, NameTaken, NotFound, Rejected
from postfleet_operator.kube import objects, paths
from postfleet_operator.kube.cache import Cache, version_of
from postfleet_operator.kube.client import Api
from postfleet_operator.kube.events import Recorder, Reference
from postfleet_operator.kube.objects import DELETION_COST, DeploymentView, PodView
from postfleet_operator.kube.secrets import Secrets
from postfleet_operator.reasons import EventReason, EventType
from postfleet_operator.spec import API_VERSION, JobPool, SendingNode
from postfleet_operator.workerset import WorkerSet

TEMPLATE_MANAGER = "postfleet-operator"
REPLICAS_MANAGER = "postfleet-autoscaler"
STATUS_MANAGER = "postfleet-status"
GOES_FIRST = "-1000"


class KubeCluster:
    """Implements `postfleet_operator.cluster.Cluster`.

    Args:
        api: the API, whose writes ask for leadership.
        cache: what the API has.
        secrets: reads Secrets that resources name.
        recorder: writes Events.
        place: what an Event about the operator as a whole is about.
    """

    def __init__(self, api: Api, cache: Cache, secrets: Secrets, recorder: Recorder, place: Reference) -> None:
        self._api = api
        self._cache = cache
        self._secrets = secrets
        self._recorder = recorder
        self._place = place

    def pools(self) -> Sequence[JobPool | BrokenPool]:
        """See `Cluster`."""
        return self._cache.pools.all()

    def nodes(self) -> Sequence[SendingNode | BrokenNode]:
        """See `Cluster`."""
        return self._cache.nodes.all()

    def secret(self, namespace: str, name: str) -> Mapping[str, str] | None:
        """See `Cluster`."""
        return self._secrets.read(namespace, name)

    def secret_changes(self, namespace: str, name: str) -> int:
        """See `Cluster`."""
        return self._secrets.changes(namespace, name)

    def observe(self, workers: WorkerSet) -> Workload:
        """See `Cluster`."""
        view = self._cache.deployments.get(workers.namespace, workers.name)
        if view is None:
            return Workload()
        if view.owned.owner_uid != workers.pool.metadata.uid:
            raise NameTaken(_taken(workers))
        pods = [each for each in self._pods(workers) if not each.finished]
        living = [each.pod for each in pods if not each.pod.stopping]
        return Workload(
            exists=True,
            replicas=view.replicas,
            ready=sum(pod.ready_at is not None for pod in living),
            present=len(living),
            pods=tuple(each.pod for each in pods),
        )

    def apply(self, workers: WorkerSet, deployment: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        path = paths.one("deployments", workers.namespace, workers.name)
        view = self._cache.deployments.get(workers.namespace, workers.name) or self._begin(workers, deployment, path)
        if TEMPLATE_MANAGER in view.counted_by:  # it must not be the only one who does, when it stops
            self._set_replicas(workers, view.replicas)
        # With its uid, one that is gone or was replaced is refused, instead of made anew with one replica.
        body = {**deployment, "metadata": {**deployment["metadata"], "uid": view.owned.uid}}
        try:
            self._cache.deployments.put(self._api.apply(path, body, TEMPLATE_MANAGER))
        except Conflict:
            self._check_there(workers, path)
            raise

    def apply_secret(self, workers: WorkerSet, secret: Mapping[str, Any]) -> None:
        """See `Cluster`."""
        name = secret["metadata"]["name"]
        path = paths.one("secrets", workers.namespace, name)
        try:
            found = objects.owned(self._api.get(path))
        except NotFound:
            found = None
        if found is not None and found.owner_uid != workers.pool.metadata.uid:
            raise NameTaken(
                f"a Secret {name} that belongs to somebody else is in the way, rename the pool or the Secret"
            )
        # stringData is not merged: a key that is gone would stay in data.
        body = {key: value for key, value in secret.items() if key != "stringData"}
        body["data"] = objects.encoded(secret.get("stringData") or {}) | dict(secret.get("data") or {})
        self._api.apply(path, body, TEMPLATE_MANAGER)

    def scale(self, workers: WorkerSet, replicas: int, first_to_go: Sequence[str] = ()) -> None:
        """See `Cluster`; the marks are deletion costs, which a ReplicaSet goes by when it shrinks."""
        self._mark(workers, frozenset(first_to_go))
        self._set_replicas(workers, replicas)

    def release(self, workers: WorkerSet) -> None:
        """See `Cluster`; an owner that let go by applying without the field would reset it to 1."""
        path = paths.one("deployments", workers.namespace, workers.name)
        metadata = self._api.get(path)["metadata"]
        entries = metadata.get("managedFields") or []
        others = [entry for entry in entries if entry.get("manager") != REPLICAS_MANAGER]
        if len(others) < len(entries):
            body = {"metadata": {"managedFields": others, "resourceVersion": metadata["resourceVersion"]}}
            self._api.merge(path, body, TEMPLATE_MANAGER)

    def strays(self, wanted: Iterable[WorkerSet]) -> Sequence[Stray]:
        """See `Cluster`."""
        names = {(workers.namespace, workers.name) for workers in wanted}
        found = [
            Stray("Deployment", view.owned.namespace, view.owned.name)
            for view in self._cache.deployments.all()
            if view.owned.owner_kind == "JobPool" and (view.owned.namespace, view.owned.name) not in names
        ]
        return found + [
            Stray("Secret", view.namespace, view.name)
            for view in self._cache.secrets.all()
            if view.owner_kind == "JobPool" and (view.namespace, view.name.removesuffix("-nodes")) not in names
        ]

    def remove(self, stray: Stray) -> None:
        """See `Cluster`."""
        plural = {"Deployment": "deployments", "Secret": "secrets"}[stray.kind]
        self._api.delete(paths.one(plural, stray.namespace, stray.name))
        self._cache.kinds()[plural].forget((stray.namespace, stray.name))

    def patch_status(self, resource: Resource, status: Mapping[str, Any]) -> None:
        """See `Cluster`; only what differs is sent. A resource that is gone meanwhile needs none."""
        plural = paths.POOLS if isinstance(resource, JobPool | BrokenPool) else paths.NODES
        present = self._cache.kinds()[plural].get(resource.metadata.namespace, resource.metadata.name)
        if present is None or present.metadata.uid != resource.metadata.uid:
            return
        patch = objects.merge_patch(present.status, status)
        if not patch:
            return
        path = paths.one(plural, resource.metadata.namespace, resource.metadata.name, "status")
        try:
            answer = self._api.merge(path, {"status": patch}, STATUS_MANAGER)
        except NotFound:
            return
        self._cache.kinds()[plural].put(answer)

    def event(self, resource: Resource, event_type: EventType, reason: EventReason, message: str) -> None:
        """See `Cluster`."""
        metadata = resource.metadata
        kind = "JobPool" if isinstance(resource, JobPool | BrokenPool) else "SendingNode"
        about = Reference(API_VERSION, kind, metadata.namespace, metadata.name, metadata.uid)
        self._recorder.record(about, event_type, reason, message)

    def notice(self, event_type: EventType, reason: EventReason, message: str) -> None:
        """See `Cluster`."""
        self._recorder.record(self._place, event_type, reason, message)

    def _pods(self, workers: WorkerSet) -> Sequence[PodView]:
        return self._cache.pods_of(workers.namespace, workers.pool.name, workers.node_label)

    def _begin(self, workers: WorkerSet, deployment: Mapping[str, Any], path: str) -> DeploymentView:
        """Create it with no replicas, so that the template's own apply may leave the number out.

        A Deployment that is created without a number gets one replica, and an owner that stops naming a field which
        nobody else owns resets it.
        """
        try:
            found = self._api.get(path)
        except NotFound:
            spec = {**deployment["spec"], "replicas": 0}
            found = self._api.apply(path, {**deployment, "spec": spec}, TEMPLATE_MANAGER)
        view = objects.deployment(found)
        if view.owned.owner_uid != workers.pool.metadata.uid:
            raise NameTaken(_taken(workers))
        self._cache.deployments.put(found)
        return view

    def _check_there(self, workers: WorkerSet, path: str) -> None:
        """Forget a Deployment that is gone, or is another one by now, though no watch has told."""
        name = workers.namespace, workers.name
        view = self._cache.deployments.get(*name)
        try:
            found = objects.owned(self._api.get(path))
        except NotFound:
            found = None
        if view is not None and (found is None or found.uid != view.owned.uid):
            self._cache.deployments.forget(name)

    def _set_replicas(self, workers: WorkerSet, replicas: int) -> None:
        body = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": {"name": workers.name, "namespace": workers.namespace},
            "spec": {"replicas": replicas},
        }
        path = paths.one("deployments", workers.namespace, workers.name, "scale")
        name = workers.namespace, workers.name
        try:
            answer = self._api.apply(path, body, REPLICAS_MANAGER)
        except NotFound as error:  # gone, though no watch has told
            self._cache.deployments.forget(name)
            raise ClusterUnavailable(str(error)) from None
        self._cache.deployments.amend(name, lambda view: replace(view, replicas=replicas), version_of(answer))

    def _mark(self, workers: WorkerSet, first_to_go: frozenset[str]) -> None:
        """Best effort: a pod that is gone meanwhile, or may not be written, needs no mark."""
        for view in self._pods(workers):
            cost = GOES_FIRST if view.pod.name in first_to_go else ""
            if view.cost == cost or (view.cost and view.cost != GOES_FIRST):  # somebody else's is left alone
                continue
            body = {"metadata": {"annotations": {DELETION_COST: cost or None}}}
            try:
                answer = self._api.merge(paths.one("pods", view.namespace, view.pod.name), body, REPLICAS_MANAGER)
            except (NotFound, Rejected):
                continue
            self._cache.pods.put(answer)


def _taken(workers: WorkerSet) -> str:
    return f"a Deployment {workers.name} of somebody else is in the way, rename the pool or that Deployment"
