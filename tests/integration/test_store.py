from __future__ import annotations

from sqlalchemy import Engine

from postfleet_workers.store import migrate


def test_a_fresh_database_is_at_the_newest_revision(engine: Engine) -> None:
    assert migrate.current(engine) == migrate.newest()


def test_migrating_twice_changes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    assert migrate.current(engine) == migrate.newest()
