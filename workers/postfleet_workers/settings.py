"""Settings of the workers: one frozen object, read once at a command's root. Nothing else reads the environment."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`POSTFLEET_*` variables. Times are seconds."""

    model_config = SettingsConfigDict(env_prefix="POSTFLEET_", frozen=True, extra="ignore")

    database_url: str = Field(description="PostgreSQL, as postgresql://user:password@host:port/database.")
    redis_url: str = Field(
        "",
        description="Redis or Valkey, as redis://host:port/db; one of Postfleet's own. Relay and worker need it.",
    )
    replica: str = Field("", description="Name of this replica (the pod's name); default: the host's name.")
    pool: str = Field("", description="JobPool that this worker belongs to.")
    node: str = Field("shared", description="Sending node served, or `shared`.")
    credentials_dir: Path | None = Field(
        None, description="Folder with `<node>.username` and `<node>.password`; re-read on change."
    )
    job_modules: str = Field(
        "", description="Modules with job types of your own, comma-separated; each offers job_types(services)."
    )
    lease_seconds: float = Field(60.0, gt=0, description="A worker silent for longer is dead; its jobs come back.")
    publication_seconds: float = Field(
        30.0, gt=0, description="How long a published row waits to be claimed before it is published again."
    )
    relay_poll_seconds: float = Field(
        0.5, gt=0, description="How often the relay looks without being woken; a record older than 3 of these is stale."
    )
    pipe_bundles_per_thread: float = Field(
        2.0, gt=0, description="Bundles (about a second of work each) kept in Redis for every live worker thread."
    )
    bundle_target_seconds: float = Field(1.0, gt=0, description="Measured work that one bundle should hold.")
    reserved_fraction: float = Field(
        0.125, ge=0, le=0.5, description="Share of a worker's threads that serve only its first queue."
    )
    queue_weights: str = Field(
        "campaign-standard=6,retry=2,warmup=2",
        description="Shares of the queues after the first, as name=weight; an unnamed queue weighs 2.",
    )
    shutdown_timeout_seconds: float = Field(60.0, gt=0, description="How long running jobs may finish after SIGTERM.")
    health_host: str = Field("127.0.0.1", description="Address of the health endpoints.")
    health_port: int = Field(
        0, ge=0, le=65535, description="Port of /healthz, /readyz and /metrics; 0 takes a free one."
    )
    deferral_base_seconds: float = Field(
        300.0, gt=0, description="First wait of deferred mail; doubles each time, up to 6 h."
    )
    deferral_max_age_seconds: float = Field(
        432_000.0, gt=0, description="A mail deferred for this long bounces; it fails if it was we who were refused."
    )
    backoff_base_seconds: float = Field(15.0, gt=0, description="First wait after a failed attempt; doubles each time.")
    session_lease_seconds: float = Field(30.0, gt=0, description="Lease of one SMTP session of a node's limit.")
    smtp_sessions_per_thread: int = Field(
        8, ge=1, le=50, description="Mails that a thread of a worker sends at once, each over a session of its own."
    )
    smtp_timeout_seconds: float = Field(300.0, gt=0, description="Wait for an SMTP reply before the final dot.")
    dot_timeout_seconds: float = Field(600.0, gt=0, description="Wait for the reply to the final dot (RFC 5321).")
    attachment_days: float = Field(
        30.0,
        gt=0,
        description="The relay deletes a file so long after it was last given, if nothing waits that has it.",
    )
    secret_key: SecretStr | None = Field(
        None,
        description="Signs links and return paths and hashes erased addresses: 32 characters or more. Several as "
        "NEW,OLD: the first signs, all are believed.",
    )
    public_url: str = Field(
        "",
        description="Where recipients reach `postfleet web`, as https://mail.example.com: links in mails lead there.",
    )
    web_host: str = Field("127.0.0.1", description="Address of `postfleet web`.")
    web_port: int = Field(8080, ge=0, le=65535, description="Port of `postfleet web`; 0 takes a free one.")
    inbound_host: str = Field("127.0.0.1", description="Address of `postfleet inbound`.")
    inbound_port: int = Field(2525, ge=0, le=65535, description="Port of `postfleet inbound`; 0 takes a free one.")
    inbound_tls_cert: Path | None = Field(
        None, description="Certificate chain (PEM) with which `postfleet inbound` offers STARTTLS; re-read on change."
    )
    inbound_tls_key: Path | None = Field(None, description="The certificate's key (PEM); default: in the same file.")
    dns_servers: str = Field(
        "",
        description="Name servers for MX records, as address or address:port, comma-separated; default: the system's.",
    )
    mx_local_addresses: bool = Field(
        False, description="Deliver also to mail servers at loopback and link-local addresses; for tests."
    )
    start_wait_seconds: float = Field(30.0, ge=0, description="How long to wait for PostgreSQL and Redis at start.")
    log_format: str = Field("auto", pattern="^(auto|json|console)$", description="json outside a terminal by default.")
    log_level: str = Field("INFO", pattern="^(DEBUG|INFO|WARNING|ERROR)$", description="Least severe level written.")
