"""The SQL of mail, by name. Bundles are read and settled whole: no statement runs per mail."""

from __future__ import annotations

from sqlalchemy import text

# A bundle's emails with what is personal to each; templates, nodes and tenants are read apart and kept for seconds.
# `listed`: the address, as it is written here, is in the list of suppressions. `erased`: that list knows some addresses
# by their hashes alone.
LOAD = text("""
SELECT e.id, e.job_id, e.tenant, e.campaign_id, e.class AS mail_class, e.node, e.recipient, e.message_id, e.content,
       e.status, e.deferrals, e.begun_at, c.attributes,
       EXISTS (SELECT FROM suppressions s WHERE s.address = e.recipient AND s.tenant IN ('', e.tenant)) AS listed,
       (SELECT EXISTS (SELECT FROM suppressions WHERE hash IS NOT NULL)) AS erased
FROM emails e LEFT JOIN contacts c ON c.id = e.contact_id
WHERE e.job_id = ANY(CAST(:job_ids AS bigint[]))
""")

LOAD_CAMPAIGNS = text("""
SELECT c.id, c.name, c.sender, c.reply_to, c.subject, c.text, c.html, c.unsubscribe_url, c.per_minute, c.track_opens,
       c.track_clicks, c.one_click, c.attachments, l.name AS list_name
FROM campaigns c JOIN contact_lists l ON l.id = c.list_id WHERE c.id = ANY(CAST(:keys AS bigint[]))
""")
NODES = """
SELECT n.name, n.spec, n.paused,
       coalesce((SELECT jsonb_agg(jsonb_build_object(
                    'site', s.site, 'action', s.action, 'value', s.value, 'rule', s.rule,
                    'seconds', extract(epoch FROM s.until - postfleet_now())))
                 FROM slowdowns s WHERE s.node = n.name AND s.until > postfleet_now()), '[]') AS slowdowns
FROM sending_nodes n
"""
LOAD_NODES = text(f"{NODES} WHERE n.name = ANY(CAST(:keys AS text[]))")
LOAD_TENANTS = text("SELECT name, per_minute, per_day FROM tenants WHERE name = ANY(CAST(:keys AS text[]))")

# What the outcomes make of their emails (`status`; NULL leaves it), and the attempts (`outcome`; NULL is none). A
# cancelled job whose time was up is an expired mail. The emails are named twice: by what `unnest` gives alone, whose
# number it cannot tell, the planner would read whole tables. An attempt gets its email from the update, or, where that
# changes nothing, by the job in `unchanged`.
SETTLE = text("""
WITH given AS MATERIALIZED (
    SELECT * FROM unnest(
        CAST(:job_ids AS bigint[]), CAST(:statuses AS text[]), CAST(:counted AS boolean[]),
        CAST(:started AS timestamptz[]), CAST(:expires AS timestamptz[]), CAST(:replies AS text[]),
        CAST(:outcomes AS text[]), CAST(:publications AS integer[]), CAST(:workers AS text[]), CAST(:nodes AS text[]),
        CAST(:phases AS text[]), CAST(:codes AS smallint[]), CAST(:enhanced AS text[]), CAST(:scopes AS text[]),
        CAST(:fenced AS boolean[]), CAST(:sites AS text[]), CAST(:hosts AS text[]), CAST(:rules AS text[]))
    AS g(job_id, status, counted, started_at, expires_at, reply, outcome, publication, worker, node, phase, code,
         enhanced, scope, fenced, site, host, rule)
), changed AS (
    UPDATE emails e
    SET status = CASE WHEN g.status = 'cancelled' AND g.expires_at <= (SELECT postfleet_now()) THEN 'expired'
                      ELSE g.status END,
        deferrals = e.deferrals + CASE WHEN g.status = 'deferred' AND g.counted THEN 1 ELSE 0 END,
        begun_at = coalesce(e.begun_at, g.started_at),
        finished_at = CASE WHEN g.status = 'deferred' THEN NULL ELSE (SELECT postfleet_now()) END,
        reply = coalesce(g.reply, e.reply)
    FROM given g
    WHERE e.job_id = g.job_id AND e.job_id = ANY(CAST(:job_ids AS bigint[])) AND g.status IS NOT NULL
    RETURNING e.id, e.job_id
)
INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, code, enhanced, scope, reply, fenced,
                            site, host, rule, started_at, finished_at)
SELECT e.id, g.publication, g.worker, g.node, g.phase, g.outcome, g.code, g.enhanced, g.scope, g.reply, g.fenced,
       g.site, g.host, g.rule, g.started_at, (SELECT postfleet_now())
FROM given g JOIN (
    SELECT id, job_id FROM changed
    UNION ALL
    SELECT id, job_id FROM emails WHERE job_id = ANY(CAST(:unchanged AS bigint[]))
) e ON e.job_id = g.job_id
WHERE g.outcome IS NOT NULL
""")

ADD_EMAIL = text("""
INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, content, on_unknown, due_at)
VALUES (:job_id, :tenant, :class, :node, :recipient, :message_id, CAST(:content AS jsonb), :on_unknown,
        coalesce(CAST(:run_at AS timestamptz), postfleet_now()))
RETURNING id
""")
