"""The SQL of mail, by name. Bundles are read and settled whole: no statement runs per mail."""

from __future__ import annotations

from sqlalchemy import text

# A bundle's emails with what is personal to each; templates, nodes and tenants are read apart and kept for seconds.
LOAD = text("""
SELECT e.id, e.job_id, e.tenant, e.campaign_id, e.class AS mail_class, e.node, e.recipient, e.message_id, e.content,
       e.status, e.deferrals, e.begun_at, c.attributes
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

# What the outcomes make of their emails. A cancelled job whose time was up is an expired mail. The emails are named
# twice here and below: by the ids in the JSON alone, whose number it cannot tell, the planner would read whole tables.
SETTLE = text("""
UPDATE emails e
SET status = CASE WHEN s.status = 'cancelled' AND s.expires_at <= postfleet_now() THEN 'expired'
                  ELSE s.status END,
    deferrals = e.deferrals + CASE WHEN s.status = 'deferred' AND s.counted THEN 1 ELSE 0 END,
    begun_at = coalesce(e.begun_at, s.begun_at),
    finished_at = CASE WHEN s.status = 'deferred' THEN NULL ELSE postfleet_now() END,
    reply = coalesce(s.reply, e.reply)
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS s(
    job_id bigint, status text, counted boolean, begun_at timestamptz, expires_at timestamptz, reply text)
WHERE e.job_id = s.job_id AND e.job_id = ANY(CAST(:job_ids AS bigint[]))
""")

ADD_ATTEMPTS = text("""
INSERT INTO email_attempts (email_id, publication, worker, node, phase, outcome, code, enhanced, scope, reply, fenced,
                            site, host, rule, started_at, finished_at)
SELECT e.id, a.publication, a.worker, a.node, a.phase, a.outcome, a.code, a.enhanced, a.scope, a.reply, a.fenced,
       a.site, a.host, a.rule, a.started_at, postfleet_now()
FROM jsonb_to_recordset(CAST(:rows AS jsonb)) AS a(
    job_id bigint, publication integer, worker text, node text, phase text, outcome text, code smallint, enhanced text,
    scope text, reply text, fenced boolean, site text, host text, rule text, started_at timestamptz)
JOIN emails e ON e.job_id = a.job_id AND e.job_id = ANY(CAST(:job_ids AS bigint[]))
""")

ADD_EMAIL = text("""
INSERT INTO emails (job_id, tenant, class, node, recipient, message_id, content, on_unknown, due_at)
VALUES (:job_id, :tenant, :class, :node, :recipient, :message_id, CAST(:content AS jsonb), :on_unknown,
        coalesce(CAST(:run_at AS timestamptz), postfleet_now()))
RETURNING id
""")
