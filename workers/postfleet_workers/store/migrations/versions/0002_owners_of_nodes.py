"""Whose mirror a sending node's row is: several operators, or an operator and a local fleet, may share a database.

Revision ID: 0002
Revises: 0001
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

UPGRADE = """
-- Who writes sending nodes, and when each was last seen to. A row of one that was seen lately is nobody else's.
CREATE TABLE node_owners (
    owner   text PRIMARY KEY,
    seen_at timestamptz NOT NULL
);
ALTER TABLE sending_nodes ADD COLUMN owner text;
"""

DOWNGRADE = """
ALTER TABLE sending_nodes DROP COLUMN owner;
DROP TABLE node_owners;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
