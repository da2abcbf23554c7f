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
    QUEUES_EXCLUSIVE = "QueuesExclusive"
    PAUSED = "Paused"


class NodeConditionType(StrEnum):
    """Conditions of a SendingNode."""

    READY = "Ready"
    MIRRORED = "Mirrored"
    CREDENTIALS_READY = "CredentialsReady"
    REACHABLE = "Reachable"
    IDENTITY_UNIQUE = "IdentityUnique"
    POOL_FOUND = "PoolFound"
    WARMING = "Warming"
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
    OPERATOR_FAILED = "OperatorFailed"
    # Progressing
    SETTLED = "Settled"
    SCALING_UP = "ScalingUp"
    SCALING_DOWN = "ScalingDown"
    WORKERS_STARTING = "WorkersStarting"
    # ScalingActive
    AUTO = "Auto"
    RECOMMEND = "Recommend"
    MANUAL = "Manual"
    EXTERNAL = "External"
    PAUSED = "Paused"
    # ScalingLimited
    WITHIN_BOUNDS = "WithinBounds"
    MIN_REPLICAS = "MinReplicas"
    MAX_REPLICAS = "MaxReplicas"
    UNSCHEDULABLE = "Unschedulable"
    THROTTLED = "Throttled"
    SLOW_START = "SlowStart"
    # QueuesExclusive
    OWN_QUEUES = "OwnQueues"
    QUEUE_TAKEN = "QueueTaken"
    # SignalHealthy
    FRESH_RECORD = "FreshRecord"
    COUNTED_IN_POSTGRESQL = "CountedInPostgreSQL"
    NO_SIGNAL = "NoSignal"
    # Paused
    NOT_PAUSED = "NotPaused"
    # of a SendingNode: Ready
    SENDING = "Sending"
    # of a SendingNode: Mirrored
    MIRRORED = "Mirrored"
    NOT_MIRRORED_YET = "NotMirroredYet"
    DATABASE_UNAVAILABLE = "DatabaseUnavailable"
    # of a SendingNode: CredentialsReady
    LOGIN_DELIVERED = "LoginDelivered"
    NO_LOGIN_NEEDED = "NoLoginNeeded"
    SECRET_MISSING = "SecretMissing"  # noqa: S105 - a word
    SECRET_KEY_MISSING = "SecretKeyMissing"  # noqa: S105
    SECRET_TOO_LARGE = "SecretTooLarge"  # noqa: S105
    # of a SendingNode: Reachable
    MAIL_TAKEN = "MailTaken"
    SERVER_ANSWERS = "ServerAnswers"
    SESSIONS_FAIL = "SessionsFail"
    NO_ANSWER = "NoAnswer"
    MANY_SERVERS = "ManyServers"
    NOT_KNOWN = "NotKnown"
    # of a SendingNode: IdentityUnique
    UNIQUE = "Unique"
    SAME_LOGIN = "SameLogin"
    SAME_IDENTITY = "SameIdentity"
    # of a SendingNode: PoolFound
    POOL_FOUND = "PoolFound"
    ANY_POOL = "AnyPool"
    POOL_MISSING = "PoolMissing"
    QUEUE_UNSERVED = "QueueUnserved"
    # of a SendingNode: Warming
    CAP_GROWS = "CapGrows"
    WARMUP_AHEAD = "WarmupAhead"
    WARMUP_OVER = "WarmupOver"
    NO_WARMUP = "NoWarmup"


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
    """Events at a JobPool or a SendingNode, and notices."""

    SCALED_UP = "ScaledUp"
    SCALED_DOWN = "ScaledDown"
    SCALED_FROM_ZERO = "ScaledFromZero"
    SCALED_TO_ZERO = "ScaledToZero"
    SCALING_HELD = "ScalingHeld"
    LATENCY_MISSED = "LatencyMissed"
    LATENCY_MET = "LatencyMet"
    BOTTLENECK_CHANGED = "BottleneckChanged"
    QUEUE_TAKEN = "QueueTaken"
    SIGNAL_LOST = "SignalLost"
    SIGNAL_RESTORED = "SignalRestored"
    INVALID_SPEC = "InvalidSpec"
    APPLY_FAILED = "ApplyFailed"
    # at a SendingNode
    NODE_READY = "NodeReady"
    CREDENTIALS_MISSING = "CredentialsMissing"
    UNREACHABLE = "Unreachable"
    IDENTITY_SHARED = "IdentityShared"
    NAME_TAKEN = "NameTaken"
    POOL_MISSING = "PoolMissing"
    SLOWED_DOWN = "SlowedDown"
    # about the operator as a whole
    DATABASE_LOST = "DatabaseLost"
    DATABASE_RESTORED = "DatabaseRestored"
    QUEUE_UNSERVED = "QueueUnserved"
