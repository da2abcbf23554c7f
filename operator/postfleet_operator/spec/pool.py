"""JobPool: the queues, the shape of a worker, and how many of them there should be. Pure.

Equal to `crds/jobpools.yaml`, which explains every field; the messages of the rules that span fields are the same
words in both places.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from pydantic import Field, StringConstraints, field_validator, model_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.complaints import PlacedError
from postfleet_operator.spec.container import EnvFrom, EnvVar, Resources
from postfleet_operator.spec.model import Metadata, Model, parse
from postfleet_operator.spec.podtemplate import (
    ENV_RESERVED,
    GRACE_MARGIN_SECONDS,
    GRACE_TOO_SHORT,
    RESERVED_ENV,
    PodTemplate,
)

QUEUES_UNIQUE = "queues must differ from each other"
QUEUES_NOT_MSGS = "a queue may not end in .msgs: Dramatiq keeps the messages of a queue under that name"
MIN_MAX = "minReplicas must not exceed maxReplicas"
SHADOW_MIN_MAX = "minReplicas must not exceed maxReplicas, in the shadow neither"
TARGET_ONE = "give exactly one of latencySeconds and backlogPerReplica"
TARGET_QUEUES_LATENCY = "target.queues needs target.latencySeconds: a backlog is not counted by queue"
TARGET_QUEUES_UNIQUE = "each queue may have one target"
TARGET_QUEUES_KNOWN = "target.queues may name only queues of spec.queues"
SHADOW_QUEUES_KNOWN = "in the shadow too, target.queues may name only queues of spec.queues"
CRON_FIELDS = "not a cron expression, give five fields: minute hour day month weekday"
TIMEZONE_NAME = "not a time zone, give an IANA name such as Europe/Berlin"
ENV_UNIQUE = "names of environment variables must differ from each other"

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)  # any time will do to see whether a cron expression is one

QueueName = Annotated[str, StringConstraints(min_length=1, max_length=63, pattern=names.QUEUE)]


class Mode(StrEnum):
    """Who decides the number of workers."""

    AUTO = "Auto"
    RECOMMEND = "Recommend"
    MANUAL = "Manual"
    EXTERNAL = "External"


class WorkerSpec(Model):
    """The shape of one worker."""

    image: Annotated[str, StringConstraints(min_length=1, max_length=512)] | None = None
    processes: int = Field(default=1, ge=1, le=32)
    threads: int = Field(default=64, ge=1, le=256)
    shutdown_timeout_seconds: int = Field(default=60, ge=1, le=3600)
    resources: Resources = Resources()
    env: tuple[EnvVar, ...] = Field(default=(), max_length=64)
    env_from: tuple[EnvFrom, ...] = Field(default=(), max_length=16)

    @field_validator("env")
    @classmethod
    def _env_names(cls, env: tuple[EnvVar, ...]) -> tuple[EnvVar, ...]:
        given = [variable.name for variable in env]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise ValueError(f"{', '.join(twice)}: {ENV_UNIQUE}")
        if taken := [name for name in given if name in RESERVED_ENV]:
            raise ValueError(f"{', '.join(taken)}: {ENV_RESERVED}")
        return env

    @property
    def capacity(self) -> int:
        """Jobs that one worker can run at the same time."""
        return self.threads * self.processes


class QueueTarget(Model):
    """A latency target of one queue, in the place of the pool's."""

    name: QueueName
    latency_seconds: int = Field(ge=1, le=86_400)


class Target(Model):
    """What the pool is meant to keep: how long jobs may wait, or how much backlog one worker is to have."""

    latency_seconds: int | None = Field(default=None, ge=1, le=86_400)
    backlog_per_replica: int | None = Field(default=None, ge=1, le=1_000_000)
    queues: tuple[QueueTarget, ...] = Field(default=(), max_length=16)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if (self.latency_seconds is None) == (self.backlog_per_replica is None):
            raise ValueError(TARGET_ONE)
        if self.queues and self.latency_seconds is None:
            raise ValueError(TARGET_QUEUES_LATENCY)
        names_given = [queue.name for queue in self.queues]
        if len(set(names_given)) != len(names_given):
            raise ValueError(TARGET_QUEUES_UNIQUE)
        return self

    def latency_for(self, queue: str) -> int | None:
        """How long a job of that queue may wait, seconds; None where the target is a backlog."""
        own = next((target.latency_seconds for target in self.queues if target.name == queue), None)
        return self.latency_seconds if own is None else own


class PolicyType(StrEnum):
    """What a scaling policy's value counts."""

    PODS = "Pods"
    PERCENT = "Percent"


class SelectPolicy(StrEnum):
    """Which of several policies holds: the one that allows the most change, the least, or none at all."""

    MAX = "Max"
    MIN = "Min"
    DISABLED = "Disabled"


class ScalingPolicy(Model):
    """How much may change within a period."""

    type: PolicyType
    value: int = Field(ge=1, le=1000)
    period_seconds: int = Field(ge=1, le=1800)


class ScalingRules(Model):
    """How fast the number may change in one direction, as in an HPA's `behavior`."""

    stabilization_window_seconds: int = Field(default=0, ge=0, le=3600)
    select_policy: SelectPolicy = SelectPolicy.MAX
    policies: tuple[ScalingPolicy, ...] = Field(default=(), max_length=8)


class ScaleDownRules(ScalingRules):
    """The same downwards, where waiting is the rule."""

    stabilization_window_seconds: int = Field(default=120, ge=0, le=3600)


class Schedule(Model):
    """A floor: from each fire of a cron expression, for some minutes."""

    cron: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    timezone: Annotated[str, StringConstraints(min_length=1, max_length=64)] = "UTC"
    duration_minutes: int = Field(ge=1, le=10_080)
    min_replicas: int = Field(ge=1, le=1000)

    @field_validator("cron")
    @classmethod
    def _cron(cls, cron: str) -> str:
        if len(cron.split()) != 5:
            raise ValueError(f"{cron!r} is {CRON_FIELDS}")
        try:
            CronSim(cron, EPOCH)
        except CronSimError as error:
            raise ValueError(f"{cron!r} is {CRON_FIELDS} ({error})") from None
        return cron

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, timezone: str) -> str:
        try:
            ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{timezone!r} is {TIMEZONE_NAME}") from None
        return timezone


Tolerance = Annotated[str, StringConstraints(max_length=8, pattern=names.FRACTION)]


class Shadow(Model):
    """A second policy, decided on and reported, never applied; what it leaves out is the pool's own."""

    min_replicas: int | None = Field(default=None, ge=0, le=1000)
    max_replicas: int | None = Field(default=None, ge=1, le=1000)
    cooldown_seconds: int | None = Field(default=None, ge=0, le=86_400)
    activation_backlog: int | None = Field(default=None, ge=1, le=1_000_000)
    target: Target | None = None
    scale_up: ScalingRules | None = None
    scale_down: ScaleDownRules | None = None
    tolerance: Tolerance | None = None
    schedules: tuple[Schedule, ...] | None = Field(default=None, max_length=16)


class Autoscaling(Model):
    """How the number of workers follows the work."""

    min_replicas: int = Field(default=0, ge=0, le=1000)
    max_replicas: int = Field(default=20, ge=1, le=1000)
    polling_interval_seconds: int = Field(default=2, ge=1, le=300)
    cooldown_seconds: int = Field(default=60, ge=0, le=86_400)
    activation_backlog: int = Field(default=1, ge=1, le=1_000_000)
    target: Target = Target(latency_seconds=5)
    scale_up: ScalingRules = ScalingRules()
    scale_down: ScaleDownRules = ScaleDownRules()
    tolerance: Tolerance = "0.1"
    schedules: tuple[Schedule, ...] = Field(default=(), max_length=16)
    shadow: Shadow | None = None

    @model_validator(mode="after")
    def _min_below_max(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(f"{MIN_MAX}: {self.min_replicas} > {self.max_replicas}")
        shadowed = self.shadowed()
        if shadowed and shadowed.min_replicas > shadowed.max_replicas:
            raise PlacedError((("shadow",), f"{SHADOW_MIN_MAX}: {shadowed.min_replicas} > {shadowed.max_replicas}"))
        return self

    @property
    def tolerance_fraction(self) -> float:
        """`tolerance` as a number."""
        return float(self.tolerance)

    def shadowed(self) -> Autoscaling | None:
        """The shadow's policy in full; None without one."""
        if self.shadow is None:
            return None
        own = {name: value for name in Shadow.model_fields if (value := getattr(self.shadow, name)) is not None}
        return self.model_copy(update={**own, "shadow": None})


class PoolSpec(Model):
    """The `spec` of a JobPool."""

    queues: tuple[QueueName, ...] = Field(min_length=1, max_length=16)
    worker: WorkerSpec = WorkerSpec()
    mode: Mode = Mode.AUTO
    paused: bool = False
    replicas: int = Field(default=1, ge=0, le=1000)
    autoscaling: Autoscaling = Autoscaling()
    pod_template: PodTemplate = PodTemplate()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if found := [*self._unknown_queues(), *self._short_grace()]:
            raise PlacedError(*found)
        return self

    def _unknown_queues(self) -> Iterator[tuple[tuple[str, ...], str]]:
        shadow = self.autoscaling.shadow
        targets: list[tuple[Target | None, tuple[str, ...], str]] = [
            (self.autoscaling.target, ("autoscaling", "target", "queues"), TARGET_QUEUES_KNOWN),
            (shadow.target if shadow else None, ("autoscaling", "shadow", "target", "queues"), SHADOW_QUEUES_KNOWN),
        ]
        for target, place, message in targets:
            strangers = [queue.name for queue in target.queues if queue.name not in self.queues] if target else []
            if strangers:
                yield place, f"{', '.join(strangers)}: {message}"

    def _short_grace(self) -> Iterator[tuple[tuple[str, ...], str]]:
        given, least = self.pod_template.grace_seconds, self.worker.shutdown_timeout_seconds + GRACE_MARGIN_SECONDS
        if given is not None and given < least:
            place = ("podTemplate", "spec", "terminationGracePeriodSeconds")
            yield place, f"{given} is less than {least}: {GRACE_TOO_SHORT}"

    def shadow_spec(self) -> PoolSpec | None:
        """The same pool under its shadow's policy; None without one."""
        shadowed = self.autoscaling.shadowed()
        return None if shadowed is None else self.model_copy(update={"autoscaling": shadowed})

    @field_validator("queues")
    @classmethod
    def _queues(cls, queues: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({queue for queue in queues if queues.count(queue) > 1}):
            raise ValueError(f"{QUEUES_UNIQUE}: {', '.join(twice)} is listed more than once")
        if msgs := [queue for queue in queues if queue.endswith(".msgs")]:
            raise ValueError(f"{', '.join(msgs)}: {QUEUES_NOT_MSGS}")
        return queues


@dataclass(frozen=True, slots=True)
class JobPool:
    """A JobPool as it stands: what was asked for, and the status that the operator wrote last."""

    metadata: Metadata
    spec: PoolSpec
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The pool's name, also its Deployment's."""
        return self.metadata.name

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.metadata.key


def parse_pool(manifest: Mapping[str, Any]) -> JobPool:
    """Read a JobPool from a manifest or an API object.

    Raises:
        InvalidManifest: with one line per problem, each naming field, value and remedy.
    """
    metadata, spec = parse("JobPool", PoolSpec, manifest)
    return JobPool(metadata, spec, manifest.get("status") or {})
