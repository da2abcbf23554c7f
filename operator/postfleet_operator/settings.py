"""Settings of the operator: one frozen object, read once at a command's root. Nothing else reads the environment."""

from __future__ import annotations

from importlib.metadata import version
from typing import Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from postfleet_operator.deployment import RenderSettings, SecretKey

PLACE = r"^([a-z0-9][a-z0-9.-]*/[-._A-Za-z0-9]+)?$"


class DatabaseSettings(BaseSettings):
    """What reading history needs."""

    model_config = SettingsConfigDict(env_prefix="POSTFLEET_", frozen=True, extra="ignore")

    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host:port/database.")

    @field_validator("database_url")
    @classmethod
    def _database_can_be_read(cls, url: str) -> str:
        from postfleet_operator.stores import check_database  # clients of both stores: commands without them start fast

        check_database(url)
        return url


class Settings(DatabaseSettings):
    """`POSTFLEET_*` variables."""

    redis_url: str = Field(description="Redis or Valkey, as redis://host:port/db; the one that the workers use.")
    worker_image: str = Field(
        f"postfleet-worker:{version('postfleet')}",
        description="Image of workers whose pool names none; by default of the operator's own version.",
    )
    connections_secret: str = Field(
        "postfleet-connections",
        description="Secret in a pool's namespace with POSTFLEET_DATABASE_URL and POSTFLEET_REDIS_URL for workers.",
    )
    database_secret: str = Field(
        "",
        pattern=PLACE,
        description="Another Secret in a pool's namespace with the workers' database URL, as secret/key.",
    )
    redis_secret: str = Field(
        "",
        pattern=PLACE,
        description="Another Secret in a pool's namespace with the workers' Redis URL, as secret/key.",
    )
    key_secret: str = Field(
        "",
        pattern=PLACE,
        description="Secret in a pool's namespace with POSTFLEET_SECRET_KEY for workers, as secret/key.",
    )
    settings_config_map: str = Field(
        "", description="ConfigMap in a pool's namespace with further POSTFLEET_ variables of every worker."
    )
    worker_pull_secrets: str = Field(
        "", description="Secrets in a pool's namespace to pull workers' images with, separated by commas."
    )

    @field_validator("redis_url")
    @classmethod
    def _redis_can_be_read(cls, url: str) -> str:
        from postfleet_operator.stores import check_redis

        check_redis(url)
        return url

    namespaces: str = Field("", description="Namespaces to look after, separated by commas; empty for all of them.")
    leader_election: bool = Field(
        True, description="Whether replicas of the operator agree, by a Lease, on which of them acts."
    )
    lease_name: str = Field("postfleet-operator", description="Name of that Lease.")
    lease_namespace: str = Field(
        "", description="Its namespace; by default the pod's own, outside of a cluster `default`."
    )
    relist_seconds: float = Field(
        60.0, ge=5, description="How often what was heard from the API server is compared with whole lists."
    )
    health_host: str = Field("127.0.0.1", description="Address of /healthz, /readyz and /metrics.")
    health_port: int = Field(8080, ge=0, le=65535, description="Their port; 0 takes a free one.")

    log_format: Literal["auto", "json", "console"] = Field(
        "auto", description="`json`, `console`, or `auto`: JSON unless on a terminal."
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Least severe level logged.")

    @property
    def watched(self) -> tuple[str, ...]:
        """`namespaces` as a list; empty for all."""
        return _listed(self.namespaces)

    @property
    def render(self) -> RenderSettings:
        """What Deployments are rendered with."""
        return RenderSettings(
            worker_image=self.worker_image,
            connections_secret=self.connections_secret,
            database_secret=_secret_key(self.database_secret),
            redis_secret=_secret_key(self.redis_secret),
            key_secret=_secret_key(self.key_secret),
            settings_config_map=self.settings_config_map,
            pull_secrets=_listed(self.worker_pull_secrets),
        )


def _listed(text: str) -> tuple[str, ...]:
    return tuple(filter(None, (name.strip() for name in text.split(","))))


def _secret_key(text: str) -> SecretKey | None:
    name, _, key = text.partition("/")
    return SecretKey(name, key) if name else None
