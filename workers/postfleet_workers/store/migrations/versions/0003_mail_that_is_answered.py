"""What receivers and recipients say of mail: sites and rules of attempts, slow-downs, suppressions, events.

Also what a campaign's mails may carry (attachments, tracking, a limit of their own) and the policy for unknown mail.

Revision ID: 0003
Revises: 0002
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

UPGRADE = """
ALTER TABLE emails
    ADD COLUMN on_unknown text NOT NULL DEFAULT 'hold'
        CONSTRAINT ck_emails_on_unknown CHECK (on_unknown IN ('hold', 'resend')),
    ADD COLUMN resends smallint NOT NULL DEFAULT 0;

ALTER TABLE email_attempts
    ADD COLUMN site text,
    ADD COLUMN host text,
    ADD COLUMN rule text,
    -- Attempts are written from the emails themselves, which nothing deletes: checking each again locks its email.
    DROP CONSTRAINT email_attempts_email_id_fkey;
-- How often a rule has met a site's replies lately: what slows a node down there.
CREATE INDEX ix_email_attempts_rule ON email_attempts (node, site, rule, finished_at) WHERE rule IS NOT NULL;

ALTER TABLE campaigns
    ADD COLUMN per_minute integer CONSTRAINT ck_campaigns_per_minute CHECK (per_minute > 0),
    ADD COLUMN track_opens boolean NOT NULL DEFAULT false,
    ADD COLUMN track_clicks boolean NOT NULL DEFAULT false,
    ADD COLUMN one_click boolean NOT NULL DEFAULT false,
    ADD COLUMN attachments bigint[] NOT NULL DEFAULT '{}';

CREATE TABLE attachments (
    id           bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant       text NOT NULL,
    name         text NOT NULL,
    content_type text NOT NULL,
    sha256       text NOT NULL,
    body         bytea NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_attachments_tenant UNIQUE (tenant, sha256, name)
);

-- Who gets no mail, from a tenant or (tenant '') from anyone. An erased address is known by its keyed hash alone.
CREATE TABLE suppressions (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant     text NOT NULL DEFAULT '',
    address    text,
    hash       text,
    reason     text NOT NULL CONSTRAINT ck_suppressions_reason CHECK (reason IN
                   ('hard_bounce', 'complaint', 'unsubscribe', 'manual', 'erasure')),
    detail     text,
    email_id   bigint,
    created_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_suppressions_address UNIQUE (tenant, address),
    CONSTRAINT uq_suppressions_hash UNIQUE (tenant, hash),
    CONSTRAINT ck_suppressions_known CHECK (address IS NOT NULL OR hash IS NOT NULL)
);
CREATE INDEX ix_suppressions_address ON suppressions (address);
CREATE INDEX ix_suppressions_hash ON suppressions (hash);

-- What became of a mail after it was sent. `unique_key` makes a report that comes twice count once.
CREATE TABLE email_events (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    email_id   bigint NOT NULL REFERENCES emails ON DELETE CASCADE,
    kind       text NOT NULL CONSTRAINT ck_email_events_kind CHECK (kind IN
                   ('open', 'click', 'unsubscribe', 'bounce', 'delay', 'complaint')),
    machine    boolean NOT NULL DEFAULT false,
    url        text,
    detail     text,
    unique_key text NOT NULL,
    at         timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT uq_email_events_unique_key UNIQUE (unique_key)
);
CREATE INDEX ix_email_events_email_id ON email_events (email_id);

-- What a site's replies have made a node do there, until when. `per_minute` and `connections` are with their action.
CREATE TABLE slowdowns (
    node       text NOT NULL,
    site       text NOT NULL,
    action     text NOT NULL CONSTRAINT ck_slowdowns_action CHECK (action IN ('suspend', 'per_minute', 'connections')),
    value      integer,
    rule       text NOT NULL,
    reply      text NOT NULL,
    until      timestamptz NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (node, site, action)
);
"""

DOWNGRADE = """
DROP TABLE slowdowns, email_events, suppressions, attachments;
ALTER TABLE campaigns DROP COLUMN per_minute, DROP COLUMN track_opens, DROP COLUMN track_clicks,
    DROP COLUMN one_click, DROP COLUMN attachments;
DROP INDEX ix_email_attempts_rule;
DELETE FROM email_attempts a WHERE NOT EXISTS (SELECT FROM emails e WHERE e.id = a.email_id);
ALTER TABLE email_attempts DROP COLUMN site, DROP COLUMN host, DROP COLUMN rule,
    ADD CONSTRAINT email_attempts_email_id_fkey FOREIGN KEY (email_id) REFERENCES emails ON DELETE CASCADE;
ALTER TABLE emails DROP COLUMN on_unknown, DROP COLUMN resends;
"""


def upgrade() -> None:
    op.execute(UPGRADE)


def downgrade() -> None:
    op.execute(DOWNGRADE)
