"""Runs the migrations on the connection that `store.migrate` hands over."""

from __future__ import annotations

from alembic import context
from sqlalchemy import text

from postfleet_workers.store.models import Base

connection = context.config.attributes["connection"]
connection.execute(text("SELECT pg_advisory_xact_lock(hashtext('postfleet.migrate'))"))
context.configure(connection=connection, target_metadata=Base.metadata)
context.run_migrations()
