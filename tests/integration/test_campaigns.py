"""A campaign that is there, on a real database: starting, pausing, cancelling, how far it is."""

from __future__ import annotations

from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine, text

from command import Command
from integration.campaigning import Create, a_campaign, expand, rows, run_expand
from postfleet_workers.campaigns.expansion import Step
from postfleet_workers.jobs import Done, HandBack


@pytest.fixture
def create(postfleet: Command, engine: Engine, tmp_path: Path) -> Create:
    return partial(a_campaign, postfleet, engine, tmp_path)


def test_a_paused_campaign_expands_and_offers_nothing_until_it_is_resumed(
    create: Create, engine: Engine, postfleet: Command, database_url: str
) -> None:
    campaign_id = create(20)
    expand(engine, campaign_id, 5)

    assert postfleet("campaigns", "pause", "spring").out == "campaign spring is paused\n"
    assert postfleet("campaigns", "pause", "spring").out == "campaign spring was paused already\n"

    assert rows(engine, "SELECT kind, key FROM holds") == [("batch", f"campaign:{campaign_id}")]
    assert isinstance(run_expand(engine, campaign_id), HandBack)
    assert rows(engine, "SELECT count(*) FROM emails") == [(5,)]
    assert postfleet("campaigns", "status", "spring", "--output", "json").json["state"] == "paused"

    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN postfleet_jobs")
        assert postfleet("campaigns", "resume", "spring").out == "campaign spring goes on\n"
        assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == ["campaign-standard"]

    assert rows(engine, "SELECT count(*) FROM holds") == [(0,)]
    assert run_expand(engine, campaign_id) == Done()
    assert rows(engine, "SELECT count(*) FROM emails") == [(20,)]
    assert postfleet("campaigns", "resume", "spring").out == "campaign spring was not paused\n"


def test_cancelling_stops_the_expansion_and_every_waiting_mail(
    create: Create, engine: Engine, postfleet: Command
) -> None:
    campaign_id = create(20)
    expand(engine, campaign_id, 10)
    with engine.begin() as connection:
        connection.execute(text("UPDATE emails SET status = 'sent' WHERE id IN (SELECT min(id) FROM emails)"))
        connection.execute(
            text("UPDATE jobs SET state = 'completed' WHERE id IN (SELECT job_id FROM emails WHERE status = 'sent')")
        )
        connection.execute(text("UPDATE jobs SET state = 'executing' WHERE id IN (SELECT max(job_id) FROM emails)"))

    answer = postfleet("campaigns", "cancel", "spring")

    assert (answer.code, answer.out) == (0, "campaign spring is cancelled; 8 emails were not sent\n")
    assert expand(engine, campaign_id) is Step.STOPPED
    assert Counter(r[0] for r in rows(engine, "SELECT state FROM jobs WHERE type = 'email.send'")) == {
        "completed": 1,
        "executing": 1,
        "cancelled": 8,
    }
    assert rows(engine, "SELECT count(*) FROM jobs WHERE cancel_requested") == [(1,)]
    assert Counter(r[0] for r in rows(engine, "SELECT status FROM emails")) == {"sent": 1, "queued": 1, "cancelled": 8}
    assert rows(engine, "SELECT state FROM jobs WHERE type = 'campaign.expand'") == [("cancelled",)]
    assert rows(engine, "SELECT count(*) FROM holds") == [(0,)]
    assert postfleet("campaigns", "start", "spring").err == "postfleet: campaign 'spring' was cancelled\n"


def test_status_counts_and_a_campaign_whose_mail_is_all_final_is_completed(
    create: Create, engine: Engine, postfleet: Command
) -> None:
    campaign_id = create(8)

    def status() -> Any:
        return postfleet("campaigns", "status", "spring", "--tenant", "acme", "--output", "json").json

    first = status()
    assert (first["state"], first["total"], first["expanded"], first["progress"]) == ("expanding", 8, 0, 0.0)
    run_expand(engine, campaign_id)
    with engine.begin() as connection:
        connection.execute(text("UPDATE emails SET status = 'sent' WHERE id IN (SELECT id FROM emails LIMIT 6)"))
    assert (status()["state"], status()["total"], status()["progress"]) == ("running", 8, 0.75)
    assert {name: n for name, n in status()["counts"].items() if n} == {"sent": 6, "queued": 2}

    with engine.begin() as connection:
        connection.execute(text("UPDATE emails SET status = 'bounced' WHERE status = 'queued'"))
    assert (status()["state"], status()["progress"]) == ("completed", 1.0)
    (listed,) = postfleet("campaigns", "list", "--output", "json").json
    assert (listed["name"], listed["state"]) == ("spring", "completed")
    assert "100.0%" in postfleet("campaigns", "list").out
    assert "  bounced   2" in postfleet("campaigns", "status", "spring").out
    assert set(status()["events"].values()) == {0}
    with engine.begin() as connection:
        connection.execute(
            text("INSERT INTO email_events (email_id, kind, unique_key) SELECT id, 'open', id FROM emails LIMIT 3")
        )
    assert status()["events"]["opens"] == 3
    assert "  opens     3" in postfleet("campaigns", "status", "spring").out


def test_a_campaign_starts_once_and_a_discarded_expansion_can_be_started_again(
    create: Create, engine: Engine, postfleet: Command
) -> None:
    create(3)

    again = postfleet("campaigns", "start", "spring")
    assert (again.code, again.err) == (2, "postfleet: campaign 'spring' was started already\n")

    with engine.begin() as connection:
        connection.execute(text("UPDATE jobs SET state = 'discarded'"))
    assert postfleet("campaigns", "start", "spring").code == 0
    assert rows(engine, "SELECT count(*) FROM jobs WHERE state = 'available'") == [(1,)]


def test_a_name_that_several_tenants_use_needs_the_tenant(create: Create, engine: Engine, postfleet: Command) -> None:
    create(1, started=False)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('beta')"))
        connection.execute(text("INSERT INTO contact_lists (tenant, name) VALUES ('beta', 'l')"))
        connection.execute(
            text("""INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text)
                SELECT tenant, 'spring', id, 'a@x.org', '{acme-1}', 's', 't' FROM contact_lists WHERE name = 'l'""")
        )

    answer = postfleet("campaigns", "status", "spring")

    assert (answer.code, answer.err) == (
        2,
        "postfleet: campaign 'spring' is there for tenants acme, beta; choose one with --tenant\n",
    )
    assert postfleet("campaigns", "status", "spring", "--tenant", "beta").code == 0
