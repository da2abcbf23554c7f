"""SendingNode: an egress identity, that is a way out, a name and the limits that it works under. Pure.

Equal to `crds/sendingnodes.yaml`. Its JSON form (`dump`) is what the mirror writes to `sending_nodes.spec` for the
workers to read: camelCase, defaults filled in, no credentials, only the name of the Secret that holds them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from postfleet_operator.errors import InvalidManifest
from postfleet_operator.spec import names
from postfleet_operator.spec.identity import Identity
from postfleet_operator.spec.limits import Limits
from postfleet_operator.spec.model import Metadata, Model, parse
from postfleet_operator.spec.warmup import Warmup

TENANTS_UNIQUE = "tenants must differ from each other"
NAME_RESERVED = (
    "a node may not be named msgs (Dramatiq keeps messages under that name) or shared (it names the pool's own workers)"
)
DEDICATED_NEEDS_POOL = "placement Dedicated needs poolRef: the pool whose template and policy its workers have"
SHARED_HAS_NO_PLACE = "nodeSelector and tolerations need placement Dedicated: shared workers are placed by their pool"
LOGIN_ELSEWHERE = "the login is in a Secret with the keys username and password: name it in credentialsSecretRef"
MX_HAS_NO_LOGIN = "host mx is the recipients' own servers, which know no login of ours: leave credentialsSecretRef out"
MX_HAS_NO_IMPLICIT = (
    "host mx is the recipients' own servers, which take no implicit TLS: give Opportunistic, StartTLS or None"
)
RESERVED_NAMES = frozenset({"msgs", "shared"})

MX = "mx"  # in place of a host: every mail goes to its recipient's own servers
MX_PORT, SUBMISSION_PORT = 25, 587


class Tls(StrEnum):
    """How a session to the SMTP server is encrypted."""

    STARTTLS = "StartTLS"
    OPPORTUNISTIC = "Opportunistic"
    IMPLICIT = "Implicit"
    NONE = "None"


class SecretRef(Model):
    """A Secret in the node's namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253)]


class Smtp(Model):
    """The server that takes this node's mail; `mx`: those of each recipient."""

    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("username", "password", "user", "login", "credentials", "secret", "auth"), LOGIN_ELSEWHERE
    )

    host: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.HOST)]
    port: int | None = Field(default=None, ge=1, le=65_535)
    tls: Tls | None = None
    helo_name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.DOMAIN)] | None = None
    credentials_secret_ref: SecretRef | None = None

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.direct and self.credentials_secret_ref is not None:
            raise ValueError(MX_HAS_NO_LOGIN)
        if self.direct and self.tls is Tls.IMPLICIT:
            raise ValueError(MX_HAS_NO_IMPLICIT)
        return self

    @property
    def direct(self) -> bool:
        """Whether mail goes to the recipients' own servers."""
        return self.host == MX

    @property
    def port_used(self) -> int:
        """`port`, or the usual one: 25 for recipients' servers, else 587."""
        return self.port or (MX_PORT if self.direct else SUBMISSION_PORT)

    @property
    def tls_used(self) -> Tls:
        """`tls`, or the usual one: what recipients' servers offer, else required."""
        return self.tls or (Tls.OPPORTUNISTIC if self.direct else Tls.STARTTLS)


class Placement(StrEnum):
    """Whose workers send a node's mail: its pool's, or workers of its own at its own place."""

    SHARED = "Shared"
    DEDICATED = "Dedicated"


class PoolRef(Model):
    """A JobPool in the node's namespace."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=50)]


class Toleration(Model):
    """A taint that the node's workers tolerate, as in any pod."""

    key: Annotated[str, StringConstraints(max_length=316)] | None = None
    operator: Literal["Exists", "Equal"] | None = None
    value: Annotated[str, StringConstraints(max_length=63)] | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    toleration_seconds: int | None = Field(default=None, ge=0)


class NodeWorkers(Model):
    """Which workers send the node's mail."""

    pool_ref: PoolRef | None = None
    placement: Placement = Placement.SHARED
    node_selector: dict[str, Annotated[str, StringConstraints(max_length=63)]] = Field(
        default_factory=dict, max_length=32
    )
    tolerations: tuple[Toleration, ...] = Field(default=(), max_length=32)

    @model_validator(mode="after")
    def _placed(self) -> Self:
        if self.placement is Placement.DEDICATED and self.pool_ref is None:
            raise ValueError(DEDICATED_NEEDS_POOL)
        if self.placement is Placement.SHARED and (self.node_selector or self.tolerations):
            raise ValueError(SHARED_HAS_NO_PLACE)
        return self


class NodeSpec(Model):
    """The `spec` of a SendingNode."""

    smtp: Smtp
    identity: Identity
    limits: Limits = Limits()
    warmup: Warmup | None = None
    workers: NodeWorkers = NodeWorkers()
    tenants: tuple[Annotated[str, StringConstraints(min_length=1, max_length=63)], ...] = Field(
        default=(), max_length=1000
    )
    paused: bool = False

    @field_validator("tenants")
    @classmethod
    def _tenants(cls, tenants: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({tenant for tenant in tenants if tenants.count(tenant) > 1}):
            raise ValueError(f"{TENANTS_UNIQUE}: {', '.join(twice)} is listed more than once")
        return tenants

    def dump(self) -> dict[str, Any]:
        """The JSON form that workers read: camelCase, every default filled in, absent values as null."""
        form: dict[str, Any] = self.model_dump(mode="json", by_alias=True)
        form["smtp"] |= {"port": self.smtp.port_used, "tls": self.smtp.tls_used.value}
        return form


@dataclass(frozen=True, slots=True)
class SendingNode:
    """A SendingNode as it stands."""

    metadata: Metadata
    spec: NodeSpec
    status: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """`namespace/name`."""
        return self.metadata.key

    @property
    def name(self) -> str:
        """The node's name: unique in the database, and the prefix of its credential files."""
        return self.metadata.name


def parse_node(manifest: Mapping[str, Any]) -> SendingNode:
    """Read a SendingNode from a manifest or an API object.

    Raises:
        InvalidManifest: with one line per problem, each naming field, value and remedy.
    """
    metadata, spec = parse("SendingNode", NodeSpec, manifest)
    if metadata.name in RESERVED_NAMES:
        raise InvalidManifest([f"SendingNode {metadata.name}: metadata.name: {NAME_RESERVED}"])
    return SendingNode(metadata, spec, manifest.get("status") or {})
