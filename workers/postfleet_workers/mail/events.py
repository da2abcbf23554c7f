"""What became of mails after they were sent (`email_events`): written once each, and counted by campaign.

An event that comes again within the hour, of the same kind, link and sort of reader, is the same: a program that loads
a picture again and again, or somebody who replays a link, fills no table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection, text

from postfleet_workers.mail import suppressions
from postfleet_workers.mail.suppressions import Reason
from postfleet_workers.mail.tokens import Key

# Nobody has read a mail so soon after its server took it: that was a scanner on the way.
MACHINE_SECONDS = 3.0

RECORD = text("""
INSERT INTO email_events (email_id, kind, machine, url, detail, unique_key, at)
SELECT id, kind, machine, url, detail,
       concat_ws(':', kind, id, CASE WHEN machine THEN 'machine' ELSE 'person' END,
                 to_char(at, 'YYYYMMDDHH24'), md5(url)), at
FROM (
    SELECT e.id, n.kind, n.url, n.detail, t.at,
           n.machine OR e.finished_at IS NULL
               OR t.at < e.finished_at + make_interval(secs => :machine_seconds) AS machine
    FROM unnest(CAST(:ids AS bigint[]), CAST(:kinds AS text[]), CAST(:machines AS boolean[]), CAST(:urls AS text[]),
                CAST(:details AS text[]), CAST(:ages AS double precision[]))
             AS n (id, kind, machine, url, detail, age)
    CROSS JOIN LATERAL (SELECT postfleet_now() - make_interval(secs => n.age) AS at) t
    JOIN emails e ON e.id = n.id
) found
ON CONFLICT (unique_key) DO NOTHING
RETURNING kind, machine
""")

UNSUBSCRIBE = text("""
WITH mail AS (SELECT id FROM emails WHERE id = :id),
     written AS (
         INSERT INTO email_events (email_id, kind, unique_key, at)
         SELECT id, 'unsubscribe', 'unsubscribe:' || id, postfleet_now() FROM mail
         ON CONFLICT (unique_key) DO NOTHING
         RETURNING id)
SELECT EXISTS (SELECT FROM mail) AS known, EXISTS (SELECT FROM written) AS new
""")

SUMMARY = text("""
SELECT count(*) FILTER (WHERE opened) AS opens,
       count(*) FILTER (WHERE opened_by_machine AND NOT opened) AS opens_machine,
       count(*) FILTER (WHERE clicked) AS clicks,
       count(*) FILTER (WHERE clicked_by_machine AND NOT clicked) AS clicks_machine,
       count(*) FILTER (WHERE unsubscribed) AS unsubscribes,
       count(*) FILTER (WHERE bounced) AS bounces,
       count(*) FILTER (WHERE complained) AS complaints
FROM (
    SELECT bool_or(v.kind = 'open' AND NOT v.machine) AS opened,
           bool_or(v.kind = 'open' AND v.machine) AS opened_by_machine,
           bool_or(v.kind = 'click' AND NOT v.machine) AS clicked,
           bool_or(v.kind = 'click' AND v.machine) AS clicked_by_machine,
           bool_or(v.kind = 'unsubscribe') AS unsubscribed,
           bool_or(v.kind = 'bounce') AS bounced,
           bool_or(v.kind = 'complaint') AS complained
    FROM emails e JOIN email_events v ON v.email_id = e.id
    WHERE e.campaign_id = :campaign_id
    GROUP BY e.id
) mails
""")


@dataclass(frozen=True, slots=True)
class Seen:
    """A mail was opened or one of its links was followed.

    Attributes:
        machine: by a program, not by a person.
        at: monotonic seconds.
        detail: what told, in a word.
    """

    email_id: int
    kind: Literal["open", "click"]
    machine: bool
    at: float
    url: str | None = None
    detail: str | None = None


def record(connection: Connection, seen: Sequence[Seen], now: float) -> list[tuple[str, bool]]:
    """Write what was not written yet; kind and machine of each that was new. Mails that are gone are passed over.

    Args:
        connection: in a transaction.
        seen: what was seen.
        now: monotonic seconds.
    """
    written = connection.execute(
        RECORD,
        {
            "ids": [each.email_id for each in seen],
            "kinds": [each.kind for each in seen],
            "machines": [each.machine for each in seen],
            "urls": [each.url for each in seen],
            "details": [each.detail for each in seen],
            "ages": [max(now - each.at, 0.0) for each in seen],
            "machine_seconds": MACHINE_SECONDS,
        },
    )
    return [(row.kind, row.machine) for row in written]


def unsubscribe(connection: Connection, email_id: int, key: Key) -> bool | None:
    """Take a mail's recipient off its tenant's mailings. Whether it is news; None when the mail is not known any more.

    Whoever was let in again since wants out once more: the list is written even when the event is not new.

    Args:
        connection: in a transaction, which is the caller's to commit.
        email_id: the mail whose link was used.
        key: of the hashes of erased addresses.
    """
    found = connection.execute(UNSUBSCRIBE, {"id": email_id}).one()
    if not found.known:
        return None
    suppressions.of_emails(connection, {email_id: (Reason.UNSUBSCRIBE, None)}, key)
    return bool(found.new)


def summary(connection: Connection, campaign_id: int) -> dict[str, int]:
    """How many of a campaign's mails were opened, clicked, unsubscribed from, bounced and complained of.

    Each mail counts once. `opens_machine` and `clicks_machine` are those that only machines opened or followed.
    """
    row: dict[str, Any] = dict(connection.execute(SUMMARY, {"campaign_id": campaign_id}).mappings().one())
    return row
