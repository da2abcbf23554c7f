"""`spec.limits` of a SendingNode: how fast mail may leave, in all and to single receiving sites. Pure."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, StringConstraints, field_validator, model_validator

from postfleet_operator.spec import names
from postfleet_operator.spec.model import Model

SITES_UNIQUE = "sites must differ from each other"
SITE_WITHOUT_LIMIT = (
    "give at least one of perMinute, perHour, perDay, maxConnections and messagesPerConnection, or leave the site out"
)


class SiteLimits(Model):
    """What the node may do at one receiving site; what is absent is the table's, or no limit behind a smarthost."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=253, pattern=names.SITE)]
    per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    per_hour: int | None = Field(default=None, ge=1, le=100_000_000)
    per_day: int | None = Field(default=None, ge=1, le=1_000_000_000)
    max_connections: int | None = Field(default=None, ge=1, le=10_000)
    messages_per_connection: int | None = Field(default=None, ge=1, le=1_000_000)

    @model_validator(mode="after")
    def _limiting(self) -> Self:
        if not self.model_fields_set - {"name"}:
            raise ValueError(SITE_WITHOUT_LIMIT)
        return self


class Limits(Model):
    """What the node may do; they hold over all workers together. An absent rate is no limit."""

    per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    per_hour: int | None = Field(default=None, ge=1, le=100_000_000)
    per_day: int | None = Field(default=None, ge=1, le=1_000_000_000)
    max_connections: int = Field(default=20, ge=1, le=10_000)
    messages_per_connection: int = Field(default=100, ge=1, le=1_000_000)
    sites: tuple[SiteLimits, ...] = Field(default=(), max_length=64)

    @field_validator("sites")
    @classmethod
    def _sites(cls, sites: tuple[SiteLimits, ...]) -> tuple[SiteLimits, ...]:
        given = [site.name for site in sites]
        if twice := sorted({name for name in given if given.count(name) > 1}):
            raise ValueError(f"{SITES_UNIQUE}: {', '.join(twice)} is listed more than once")
        return sites
