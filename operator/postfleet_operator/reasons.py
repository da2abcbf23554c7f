"""Every word that the operator puts into a condition, a decision or an Event: a closed list.

People and alerts match on these, so a word is never renamed or used for a second thing.
"""

from __future__ import annotations

from enum import StrEnum


class ConditionType(StrEnum):
    """Conditions of a JobPool."""

    READY = "Ready"
    PROGRESSING = "Progressing"
    SCALING_ACTIVE = "ScalingActive"
    SCALING_LIMITED = "ScalingLimited"
    SIGNAL_HEALTHY = "SignalHealthy"
    PAUSED = "Paused"


class Reason(StrEnum):
    """Reasons of conditions."""

    # Ready
    WORKERS_READY = "WorkersReady"
    SCALED_TO_ZERO = "ScaledToZero"
    NO_WORKER_READY = "NoWorkerReady"
    DEPLOYMENT_MISSING = "DeploymentMissing"
    INVALID_SPEC = "InvalidSpec"
    NAME_TAKEN = "NameTaken"
    REJECTED = "Rejected"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    # Progressing
    SETTLED = "Settled"
    SCALING_UP = "ScalingUp"
    SCALING_DOWN = "ScalingDown"
    WORKERS_STARTING = "WorkersStarting"
    # ScalingActive
    AUTO = "Auto"
    MANUAL = "Manual"
    PAUSED = "Paused"
    # ScalingLimited
    WITHIN_BOUNDS = "WithinBounds"
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    # SignalHealthy
    FRESH_RECORD = "FreshRecord"
    COUNTED_IN_POSTGRESQL = "CountedInPostgreSQL"
    NO_SIGNAL = "NoSignal"
    # Paused
    NOT_PAUSED = "NotPaused"


class DecisionReason(StrEnum):
    """Why a decision ends at its number; also the names of the clamps, in the order in which they are applied."""

    # where the number comes from when no clamp changes it
    IDLE = "Idle"
    BACKLOG = "Backlog"
    LATENCY = "Latency"
    # clamps on what is needed
    ACTIVATION = "Activation"
    THROTTLE = "Throttle"
    UNMEASURED = "Unmeasured"
    STARTING = "Starting"
    UNSCHEDULABLE = "Unschedulable"
    DUE_SOON = "DueSoon"
    SCHEDULE = "Schedule"
    # clamps on how fast it may change
    TOLERANCE = "Tolerance"
    SCALE_UP_WINDOW = "ScaleUpWindow"
    SCALE_UP_POLICY = "ScaleUpPolicy"
    SCALE_DOWN_WINDOW = "ScaleDownWindow"
    SCALE_DOWN_POLICY = "ScaleDownPolicy"
    RUNNING_JOBS = "RunningJobs"
    COOLDOWN = "Cooldown"
    SIGNAL_BROKEN = "SignalBroken"
    # what people set
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    MANUAL = "Manual"
    EXTERNAL = "External"
    PAUSED = "Paused"


class EventType(StrEnum):
    """Kubernetes' two types of Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventReason(StrEnum):
    """Events at a JobPool."""

    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"
    SCALED_FROM_ZERO = "ScaledFromZero"
    SCALED_TO_ZERO = "ScaledToZero"
    SIGNAL_LOST = "SignalLost"
    SIGNAL_RESTORED = "SignalRestored"
    INVALID_SPEC = "InvalidSpec"
    APPLY_FAILED = "ApplyFailed"
