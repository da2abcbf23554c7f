"""Bring a database to the newest schema, or tell which one it has. Alembic, driven from code."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine

MIGRATIONS = Path(__file__).parent / "migrations"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    return config


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Migrate up to `revision`. Safe to run twice and at once: a lock makes the second one wait.

    A schema that is newer than this code stays as it is: it serves the version before, too.
    """
    if is_newer(current(engine)):
        return
    with engine.begin() as connection:
        config = _config()
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def current(engine: Engine) -> str | None:
    """The revision the database is at; None before the first migration."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def is_newer(revision: str | None) -> bool:
    """Whether a later version of this code has made the schema: its revision is not known here."""
    return revision is not None and revision not in {each.revision for each in _scripts().walk_revisions()}


def newest() -> str | None:
    """The revision that this code expects."""
    return _scripts().get_current_head()


def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())
