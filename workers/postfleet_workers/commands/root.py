"""What every command may ask for: the settings, read once, and a PostgreSQL engine that was seen to answer.

Nothing is imported or connected before a command asks, so that `--help` needs neither settings nor servers.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from postfleet_workers.errors import InputError

if TYPE_CHECKING:
    from pydantic import ValidationError
    from sqlalchemy import Engine
    from structlog.typing import Processor

    from postfleet_workers.mail.tokens import Key
    from postfleet_workers.settings import Settings


def settings_problem(error: ValidationError) -> str:
    """One line for what is wrong with the environment: the first problem, by its variable's name."""
    problem = error.errors()[0]
    name = "POSTFLEET_" + "_".join(str(part) for part in problem["loc"]).upper()
    if problem["type"] == "missing":
        return f"{name} is not set; set it in the environment (`postfleet-local up` writes both URLs to DIR/env)"
    return f"{name}={problem['input']!r}: {problem['msg']}"


class Root:
    """Settings and engine of one command line; closed by the root command."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._engine: Engine | None = None

    @property
    def settings(self) -> Settings:
        """The settings.

        Raises:
            InputError: a variable is missing or has a value that cannot work.
        """
        if self._settings is None:
            from pydantic import ValidationError

            from postfleet_workers.settings import Settings

            try:
                self._settings = Settings()
            except ValidationError as error:
                raise InputError(settings_problem(error)) from None
        return self._settings

    @property
    def key(self) -> Key | None:
        """What links, return paths and hashes of addresses are made with; None when it is not set.

        Raises:
            InputError: it cannot work.
        """
        from postfleet_workers.mail.tokens import key_of

        secret = self.settings.secret_key
        return key_of(secret.get_secret_value() if secret else None)

    @property
    def engine(self) -> Engine:
        """An engine on a database that answers and has Postfleet's tables.

        Raises:
            InputError: the URL is no PostgreSQL URL.
            StoreUnavailable: PostgreSQL did not answer within `start_wait_seconds`.
            PermanentError: the database was never migrated.
        """
        if self._engine is None:
            from postfleet_workers.store.session import engine_for, require_schema, wait_until_up

            logs_to_stderr()
            self._engine = engine_for(self.settings.database_url, connections=2, application_name="postfleet-cli")
            wait_until_up(self._engine, self.settings.start_wait_seconds)
            require_schema(self._engine)
        return self._engine

    def close(self) -> None:
        """Close the connections."""
        if self._engine is not None:
            self._engine.dispose()
            self._engine = None


def logs_to_stderr() -> None:
    """Keep log lines out of stdout, where a command's result goes. Leaves a configured structlog alone."""
    import structlog

    if not structlog.is_configured():
        processors: list[Processor] = [structlog.processors.add_log_level, structlog.dev.ConsoleRenderer(colors=False)]
        structlog.configure(
            processors=processors,
            logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # today's stderr, not that of the import
        )


pass_root = click.make_pass_decorator(Root)
