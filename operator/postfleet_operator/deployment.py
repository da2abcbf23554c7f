"""A worker set as the Deployment that runs it. Pure: a pool and perhaps a Dedicated node in, a manifest out.

The rendered container is the whole contract with the workers package: its command, its environment, the folder with
credentials, its health endpoints and its grace period. The local fleet starts processes from the same manifest.
`replicas` is not in it: the autoscaler owns that field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from postfleet_operator.overlay import overlay
from postfleet_operator.spec import API_VERSION, JobPool
from postfleet_operator.spec.container import EnvFrom, EnvVar
from postfleet_operator.spec.podtemplate import (
    CONTAINER,
    CREDENTIALS_DIR,
    CREDENTIALS_VOLUME,
    GRACE_MARGIN_SECONDS,
    NODE_LABEL,
    POOL_LABEL,
)
from postfleet_operator.workerset import WorkerSet

HEALTH_PORT = 8080


@dataclass(frozen=True, slots=True)
class SecretKey:
    """One key of a Secret in the pool's namespace."""

    name: str
    key: str


@dataclass(frozen=True, slots=True)
class RenderSettings:
    """What `render` needs besides the pool. Every Secret and ConfigMap is one of the pool's namespace.

    Attributes:
        worker_image: image of pools that name none.
        connections_secret: Secret with POSTFLEET_DATABASE_URL and POSTFLEET_REDIS_URL.
        database_secret: where POSTFLEET_DATABASE_URL is, if not there.
        redis_secret: where POSTFLEET_REDIS_URL is, if not there.
        key_secret: where POSTFLEET_SECRET_KEY is; a worker starts without it, too.
        settings_config_map: ConfigMap with further settings of every worker; empty for none.
        pull_secrets: Secrets that the images are pulled with.
    """

    worker_image: str
    connections_secret: str = "postfleet-connections"  # noqa: S105 - the name of a Secret
    database_secret: SecretKey | None = None
    redis_secret: SecretKey | None = None
    key_secret: SecretKey | None = None
    settings_config_map: str = ""
    pull_secrets: tuple[str, ...] = ()

    @property
    def urls(self) -> dict[str, SecretKey]:
        """The variables that have a Secret of their own."""
        found = {"POSTFLEET_DATABASE_URL": self.database_secret, "POSTFLEET_REDIS_URL": self.redis_secret}
        return {name: place for name, place in found.items() if place is not None}


def labels(workers: WorkerSet) -> dict[str, str]:
    """Labels of everything that belongs to the set."""
    return {
        **selector(workers),
        "app.kubernetes.io/name": "postfleet-worker",
        "app.kubernetes.io/managed-by": "postfleet-operator",
    }


def selector(workers: WorkerSet) -> dict[str, str]:
    """What selects its pods. A Deployment's selector can never change, so it holds no more than it must."""
    return {POOL_LABEL: workers.pool.name, NODE_LABEL: workers.node_label}


def selector_text(workers: WorkerSet) -> str:
    """The selector as the `scale` subresource wants it."""
    return ",".join(f"{key}={value}" for key, value in selector(workers).items())


def nodes_secret(workers: WorkerSet) -> str:
    """Name of the Secret with the credentials of the nodes that the set serves."""
    return f"{workers.name}-nodes"


def owner_references(pool: JobPool) -> list[dict[str, Any]]:
    """What makes a rendered object go with its pool; none for a pool that came from a file."""
    if not pool.metadata.uid:
        return []
    return [
        {
            "apiVersion": API_VERSION,
            "kind": "JobPool",
            "name": pool.name,
            "uid": pool.metadata.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }
    ]


def render(workers: WorkerSet, settings: RenderSettings) -> dict[str, Any]:
    """The Deployment of `workers`."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": workers.name,
            "namespace": workers.namespace,
            "labels": labels(workers),
            "ownerReferences": owner_references(workers.pool),
        },
        "spec": {
            "revisionHistoryLimit": 3,
            "selector": {"matchLabels": selector(workers)},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 0}},
            "template": _template(workers, settings),
        },
    }


def _template(workers: WorkerSet, settings: RenderSettings) -> dict[str, Any]:
    """What the operator makes, the pool's `podTemplate` over it, and a Dedicated node's place over both."""
    rendered = {"metadata": {"labels": labels(workers)}, "spec": _pod(workers, settings)}
    template = overlay(rendered, workers.spec.pod_template.overlay)
    return {**template, "spec": _placed(template["spec"], workers)}


def _pod(workers: WorkerSet, settings: RenderSettings) -> dict[str, Any]:
    pull = {"imagePullSecrets": [{"name": name} for name in settings.pull_secrets]} if settings.pull_secrets else {}
    return {
        **pull,
        "terminationGracePeriodSeconds": workers.spec.worker.shutdown_timeout_seconds + GRACE_MARGIN_SECONDS,
        "automountServiceAccountToken": False,
        # A Service called postfleet-redis would otherwise inject POSTFLEET_REDIS_PORT=tcp://… into the settings.
        "enableServiceLinks": False,
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [_container(workers, settings)],
        "volumes": [
            # Optional: a pool without nodes that need credentials starts all the same.
            {
                "name": CREDENTIALS_VOLUME,
                "secret": {"secretName": nodes_secret(workers), "optional": True, "defaultMode": 0o444},
            },
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def _placed(pod: dict[str, Any], workers: WorkerSet) -> dict[str, Any]:
    """`pod` at a Dedicated node's own place; where the pool's template says otherwise, the node is right."""
    if workers.node is None:
        return pod
    own = workers.node.spec.workers
    tolerations = [each.model_dump(mode="json", by_alias=True, exclude_none=True) for each in own.tolerations]
    given = pod.get("tolerations", [])
    place = {
        "nodeSelector": {**pod.get("nodeSelector", {}), **own.node_selector},
        "tolerations": [*given, *(each for each in tolerations if each not in given)],
    }
    return pod | {key: value for key, value in place.items() if value}


def _container(workers: WorkerSet, settings: RenderSettings) -> dict[str, Any]:
    worker = workers.spec.worker
    return {
        "name": CONTAINER,
        "image": worker.image or settings.worker_image,
        "command": ["postfleet", "worker"],
        "args": [
            f"--queues={','.join(workers.queues)}",
            f"--threads={worker.threads}",
            f"--processes={worker.processes}",
            f"--shutdown-timeout={worker.shutdown_timeout_seconds}",
        ],
        "env": [*_own_env(workers), *_secrets(workers, settings), *(_env(variable) for variable in worker.env)],
        "envFrom": [*_common(settings), *(_env_from(source) for source in worker.env_from)],
        "ports": [{"name": "health", "containerPort": HEALTH_PORT}],
        "resources": {key: value for key, value in worker.resources.model_dump().items() if value},
        "volumeMounts": [
            # The whole folder, never subPath: the kubelet refreshes a folder when its Secret changes.
            {"name": CREDENTIALS_VOLUME, "mountPath": CREDENTIALS_DIR, "readOnly": True},
            {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108 - the container's own
        ],
        **_probes(),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def _own_env(workers: WorkerSet) -> list[dict[str, Any]]:
    return [
        {"name": "POSTFLEET_POOL", "value": workers.pool.key},
        {"name": "POSTFLEET_NODE", "value": workers.node_label},
        {"name": "POSTFLEET_REPLICA", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "POSTFLEET_CREDENTIALS_DIR", "value": CREDENTIALS_DIR},
        {"name": "POSTFLEET_HEALTH_HOST", "value": "0.0.0.0"},  # noqa: S104 - the kubelet's probes come from outside
        {"name": "POSTFLEET_HEALTH_PORT", "value": str(HEALTH_PORT)},
    ]


def _secrets(workers: WorkerSet, settings: RenderSettings) -> list[dict[str, Any]]:
    """What has a Secret of its own, unless the pool itself says where it is."""
    given = {variable.name for variable in workers.spec.worker.env}
    references: dict[str, dict[str, Any]] = {
        name: {"name": place.name, "key": place.key} for name, place in settings.urls.items()
    }
    if key := settings.key_secret:
        references["POSTFLEET_SECRET_KEY"] = {"name": key.name, "key": key.key, "optional": True}
    return [
        {"name": name, "valueFrom": {"secretKeyRef": reference}}
        for name, reference in references.items()
        if name not in given
    ]


def _common(settings: RenderSettings) -> list[dict[str, Any]]:
    """What every worker takes whole, before what its pool adds: the later source is right."""
    sources: list[dict[str, Any]] = []
    if settings.settings_config_map:
        sources.append({"configMapRef": {"name": settings.settings_config_map}})
    if len(settings.urls) < 2:
        sources.append({"secretRef": {"name": settings.connections_secret}})
    return sources


def _env(variable: EnvVar) -> dict[str, Any]:
    return variable.model_dump(mode="json", by_alias=True, exclude_none=True)


def _env_from(source: EnvFrom) -> dict[str, Any]:
    rendered = source.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {key: value for key, value in rendered.items() if value != ""}


def _probes() -> dict[str, Any]:
    def get(path: str, period_seconds: int, failures: int) -> dict[str, Any]:
        return {
            "httpGet": {"path": path, "port": "health"},
            "periodSeconds": period_seconds,
            "timeoutSeconds": 5,
            "failureThreshold": failures,
        }

    return {
        # Two minutes to come up, asked often, so that a worker counts as ready (and as started) within two seconds.
        "startupProbe": get("/healthz", 2, 60),
        "readinessProbe": get("/readyz", 2, 5),
        # A minute of silence: a worker is restarted when its process hangs, not when it is busy.
        "livenessProbe": get("/healthz", 10, 6),
    }
