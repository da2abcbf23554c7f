"""What a backlog does to urgent mail, and to the relay: latencies instead of speed."""

from __future__ import annotations

import re
import time
import urllib.request
from dataclasses import dataclass

import psycopg

from postfleet_local.stack import free_port
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.store.session import engine_for
from speed import mails
from speed.fleet import running
from speed.runs import Load, row
from speed.servers import Servers, rss_bytes

CAMPAIGN = 100_000
URGENT = 30  # mails, one each second
BACKLOGS = (10_000, 1_000_000)
WATCH_SECONDS = 10.0
PERCENTILES = """
SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - due_at)),
       percentile_cont(0.99) WITHIN GROUP (ORDER BY extract(epoch FROM finished_at - due_at))
FROM emails WHERE class = 'transactional' AND status = 'sent' AND recipient LIKE %s
"""


@dataclass(frozen=True, slots=True)
class Urgent:
    """How long transactional mail took, from its enqueueing to its outcome; seconds."""

    mails: int
    beside: int
    median_seconds: float
    p99_seconds: float


@dataclass(frozen=True, slots=True)
class Backlog:
    """The relay beside so many queued mails: the mean of its rounds, and its memory."""

    queued: int
    rounds: int
    round_ms: float
    rss_mib: float


def urgent(servers: Servers, load: Load) -> Urgent:
    """One transactional mail each second while a campaign of 100,000 is sent."""
    engine = engine_for(servers.database_url, connections=1)
    with running(servers, load) as fleet:
        campaign = mails.campaign(fleet.connection, "large", CAMPAIGN)
        for number in range(URGENT):
            with engine.begin() as connection:
                text = "Hello, this is yours."
                mail = NewEmail(
                    tenant=mails.TENANT, to=f"urgent{number}@example.com", node=mails.NODE, subject="Yours", text=text
                )
                send_email(connection, mail)
            time.sleep(1)  # the pace itself
        left = _left(fleet.connection, campaign)
        median, p99 = row(fleet.connection, PERCENTILES, "urgent%")
    engine.dispose()
    return Urgent(URGENT, left, median, p99)


def backlog(servers: Servers, load: Load, queued: int) -> Backlog:
    """The relay at work with so many mails in the queue."""
    port = free_port()
    with running(servers, load, relay_port=port) as fleet:
        mails.campaign(fleet.connection, "large", queued, held=True)
        mails.release(fleet.connection)
        before = _rounds(port)
        time.sleep(min(WATCH_SECONDS, queued / 3000))  # as long as there is mail left
        after = _rounds(port)
        rounds = after[0] - before[0]
        memory = rss_bytes([fleet.relay.pid]) / 2**20
    return Backlog(queued, int(rounds), 1000 * (after[1] - before[1]) / max(rounds, 1), memory)


def _left(connection: psycopg.Connection, campaign: int) -> int:
    left, _ = row(
        connection, "SELECT count(*), 0 FROM jobs WHERE batch = %s AND state <> 'completed'", f"campaign:{campaign}"
    )
    return int(left)


def _rounds(port: int) -> tuple[float, float]:
    """How many rounds the relay has gone, and the seconds they took in all."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        text = answer.read().decode()
    count, total = (re.search(rf"^relay_round_seconds_{name} (\S+)", text, re.MULTILINE) for name in ("count", "sum"))
    return float(count[1] if count else 0), float(total[1] if total else 0)
