"""What is deleted by itself: files that mails carried, some time after nothing could carry them any more.

A file has one row, however many mails and campaigns carry it, and no mail counts them. So the row's `created_at` is
when it was last given, and what is older than the retention is held against what is yet to be sent: if that carries it,
it is as new as if it had just been given. Nothing is looked for while no file is so old.
"""

from __future__ import annotations

import psycopg
import structlog
from sqlalchemy import Connection, text
from sqlalchemy.exc import OperationalError

log = structlog.get_logger(__name__)

PATIENCE_SECONDS = 20.0  # the relay waits for this meanwhile, and asks again an hour later
PATIENCE = text("SELECT set_config('statement_timeout', CAST(:milliseconds AS text), true)")
# Jobs that are not done, each state by its own partial index: done ones are never deleted, and may be any number. The
# mails of campaigns are batches, and are counted, not looked for: the planner would look in all jobs for the first one.
# A draft, and a campaign that is being expanded, is yet to make its mails. A file that is given again at this moment is
# newer in the row that the DELETE looks at once more, so it stays.
FORGET = text("""
WITH old AS (
    SELECT id FROM attachments WHERE created_at < postfleet_now() - make_interval(secs => :seconds)
), single AS (
    SELECT id FROM jobs WHERE batch = '' AND state = 'available'
    UNION ALL SELECT id FROM jobs WHERE batch = '' AND state IN ('scheduled', 'retryable')
    UNION ALL SELECT id FROM jobs WHERE batch = '' AND state = 'executing'
), wanted AS (
    SELECT CAST(jsonb_array_elements_text(e.content -> 'attachments') AS bigint) AS id
    FROM single s JOIN emails e ON e.job_id = s.id
    WHERE EXISTS (SELECT FROM old) AND e.content ? 'attachments'
    UNION
    SELECT unnest(c.attachments) FROM campaigns c
    WHERE c.attachments && ARRAY(SELECT id FROM old)
      AND (c.state IN ('draft', 'expanding')
           OR (SELECT count(*) FROM jobs j WHERE j.batch = 'campaign:' || c.id AND j.batch <> ''
               AND j.state IN ('available', 'scheduled', 'retryable', 'executing')) > 0)
), renewed AS (
    UPDATE attachments SET created_at = postfleet_now() WHERE id IN (SELECT id FROM old JOIN wanted USING (id))
)
DELETE FROM attachments
WHERE id IN (SELECT id FROM old) AND id NOT IN (SELECT id FROM wanted)
  AND created_at < postfleet_now() - make_interval(secs => :seconds)
""")


def forget_attachments(connection: Connection, seconds: float, patience_seconds: float = PATIENCE_SECONDS) -> int:
    """Delete files that were last given so long ago, and that nothing carries which is yet to be sent; how many.

    In the caller's transaction, as its last statement. None are deleted when that would take longer than the patience.
    """
    try:
        with connection.begin_nested():
            connection.execute(PATIENCE, {"milliseconds": round(patience_seconds * 1000)})
            gone = connection.execute(FORGET, {"seconds": seconds}).rowcount
    except OperationalError as error:
        if not isinstance(error.orig, psycopg.errors.QueryCanceled):
            raise
        log.warning("attachments_kept", error=str(error.orig).splitlines()[0])
        return 0
    if gone:
        log.info("attachments_forgotten", files=gone)
    return gone
