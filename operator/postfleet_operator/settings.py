"""Settings of the operator: one frozen object, read once at a command's root. Nothing else reads the environment."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from postfleet_operator.deployment import RenderSettings


class Settings(BaseSettings):
    """`POSTFLEET_*` variables."""

    model_config = SettingsConfigDict(env_prefix="POSTFLEET_", frozen=True, extra="ignore")

    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host:port/database.")
    redis_url: str = Field(description="Redis or Valkey, as redis://host:port/db; the one that the workers use.")
    worker_image: str = Field("postfleet/worker:latest", description="Image of workers whose pool names none.")
    connections_secret: str = Field(
        "postfleet-connections",
        description="Secret in a pool's namespace with POSTFLEET_DATABASE_URL and POSTFLEET_REDIS_URL for workers.",
    )

    @property
    def render(self) -> RenderSettings:
        """What Deployments are rendered with."""
        return RenderSettings(worker_image=self.worker_image, connections_secret=self.connections_secret)
