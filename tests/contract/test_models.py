"""The models against the migrations: what the classes declare is what a migrated database has."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection, Engine, text
from sqlalchemy.orm import Session

from postfleet_local.stack import Postgres
from postfleet_workers.store.models import Base, Email, Job
from postfleet_workers.store.session import engine_for

DECLARED = "postfleet_declared"

COLUMNS = """
SELECT c.relname || '.' || a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type, a.attnotnull AS not_null,
       a.attidentity::text AS identity, pg_get_expr(d.adbin, d.adrelid) AS server_default
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    LEFT JOIN pg_attrdef d ON (d.adrelid, d.adnum) = (c.oid, a.attnum)
WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND c.relname <> 'alembic_version'
"""
CONSTRAINTS = """
SELECT c.relname || '.' || o.conname AS name, pg_get_constraintdef(o.oid) AS definition
FROM pg_constraint o JOIN pg_class c ON c.oid = o.conrelid
WHERE c.relnamespace = 'public'::regnamespace AND c.relname <> 'alembic_version'
"""
INDEXES = """
SELECT indexname AS name, indexdef AS definition FROM pg_indexes
WHERE schemaname = 'public' AND tablename <> 'alembic_version'
"""
OPTIONS = """
SELECT relname AS name, reloptions::text FROM pg_class
WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'i') AND relname <> 'alembic_version'
  AND reloptions IS NOT NULL
"""


@pytest.fixture(scope="module")
def declared(postgres: Postgres) -> Iterator[Engine]:
    """A database made from the models alone."""
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {DECLARED}")
    engine = engine_for(postgres.url(DECLARED))
    Base.metadata.create_all(engine)
    yield engine
    engine.dispose()
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {DECLARED} WITH (FORCE)")


def catalogue(connection: Connection, question: str) -> dict[str, tuple[object, ...]]:
    return {row.name: tuple(row[1:]) for row in connection.execute(text(question))}


def test_alembic_finds_nothing_to_migrate(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True, "target_metadata": Base.metadata}
        )
        assert compare_metadata(context, Base.metadata) == []


@pytest.mark.parametrize(
    ("question", "least"),
    [
        pytest.param(COLUMNS, 100, id="columns: type, null, identity, default"),
        pytest.param(CONSTRAINTS, 40, id="keys, foreign keys, unique and check constraints"),
        pytest.param(INDEXES, 25, id="indexes, with what makes them partial"),
        pytest.param(OPTIONS, 2, id="options of tables and indexes"),
    ],
)
def test_both_catalogues_say_the_same(engine: Engine, declared: Engine, question: str, least: int) -> None:
    with engine.connect() as migrated, declared.connect() as made:
        wanted = catalogue(migrated, question)
        assert len(wanted) >= least
        assert catalogue(made, question) == wanted


def test_columns_stand_in_the_same_order(engine: Engine, declared: Engine) -> None:
    question = f"{COLUMNS} ORDER BY c.relname, a.attnum"
    with engine.connect() as migrated, declared.connect() as made:
        assert list(catalogue(made, question)) == list(catalogue(migrated, question))


def test_a_row_added_with_the_least_gets_the_schemas_defaults(engine: Engine) -> None:
    with Session(engine) as session, session.begin():
        job = Job(type="probe", queue="probe")
        session.add(job)
        session.flush()
        session.refresh(job)
        assert (job.state, job.tenant, job.args, job.attempt, job.max_attempts) == ("available", "default", {}, 0, 3)
        assert job.run_at.utcoffset() is not None, "times carry their zone"
        email = Email(
            job_id=job.id, tenant="t", class_="campaign", node="n", recipient="a@b.example", message_id="<1@b>"
        )
        session.add(email)
        session.flush()
        stored = session.execute(text("SELECT content IS NULL, status, class FROM emails")).one()
        assert tuple(stored) == (True, "queued", "campaign"), "no content is NULL, not JSON's null"
