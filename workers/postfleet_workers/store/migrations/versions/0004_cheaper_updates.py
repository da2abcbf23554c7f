"""Indexes that a mail on its usual way does not touch, and room to update an email where it is.

An update that changes no column of an index keeps the row's place in all of them (a heap-only tuple), if the page has
room. Indexes of block ranges (BRIN) are no hindrance to that, from PostgreSQL 16 on.

Revision ID: 0004
Revises: 0003
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

UPGRADE = """
DROP INDEX ix_emails_status;
CREATE INDEX ix_emails_status ON emails USING brin (status text_bloom_ops (n_distinct_per_range = 16))
    WITH (pages_per_range = 32);
-- Holds for pages that are written from now on; those that are there are not rewritten.
ALTER TABLE emails SET (fillfactor = 45);

DROP INDEX ix_jobs_batch;
CREATE INDEX ix_jobs_batch ON jobs (batch, id)
    WHERE batch <> '' AND state IN ('scheduled', 'available', 'retryable');
"""

DOWNGRADE = """
DROP INDEX ix_jobs_batch;
CREATE INDEX ix_jobs_batch ON jobs (batch, state) WHERE batch <> '';
ALTER TABLE emails RESET (fillfactor);
DROP INDEX ix_emails_status;
CREATE INDEX ix_emails_status ON emails (status, id) WHERE status NOT IN ('queued', 'sent');
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
