"""From a list to emails and their jobs on a real database: each exactly once, each with its node and route."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from functools import partial
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Engine, text

from command import Command
from integration.campaigning import Create, a_campaign, expand, rows, run_expand
from postfleet_workers.jobs import Done, HandBack


@pytest.fixture
def create(postfleet: Command, engine: Engine, tmp_path: Path) -> Create:
    return partial(a_campaign, postfleet, engine, tmp_path)


def test_starting_enqueues_one_urgent_job_and_expanding_makes_an_email_and_a_job_per_contact(
    create: Create, engine: Engine
) -> None:
    campaign_id = create(250)
    (job,) = rows(engine, "SELECT * FROM jobs")
    assert (job.type, job.queue, job.tenant, job.batch, job.priority, job.args, job.state) == (
        "campaign.expand", "campaign-standard", "acme", f"campaign:{campaign_id}", -10, {"campaign_id": campaign_id},
        "available",
    )  # fmt: skip

    assert run_expand(engine, campaign_id) == Done()

    mails = rows(
        engine,
        """SELECT e.*, c.email, j.type, j.queue, j.batch, j.route, j.state, j.run_at, j.max_attempts,
                  j.tenant AS job_tenant
           FROM emails e JOIN jobs j ON j.id = e.job_id JOIN contacts c ON c.id = e.contact_id""",
    )
    assert len(mails) == 250
    assert {mail.recipient for mail in mails} == {f"c{i}@example.org" for i in range(250)}
    assert all(mail.recipient == mail.email for mail in mails)
    assert all(re.fullmatch(rf"<[0-9a-f]{{32}}@{mail.node}\.example>", mail.message_id) for mail in mails)
    assert len({mail.message_id for mail in mails}) == 250
    assert {(m.type, m.queue, m.batch, m.state, m.status, m.job_tenant, m.tenant, m.max_attempts) for m in mails} == {
        ("email.send", "campaign-standard", f"campaign:{campaign_id}", "available", "queued", "acme", "acme", 3)
    }
    assert all(mail.route == mail.node and mail.due_at == mail.run_at for mail in mails)
    assert Counter(mail.node for mail in mails) == {"acme-1": 125, "acme-2": 125}


@pytest.mark.parametrize("contacts", [1, 100, 101, 200])
def test_any_number_of_contacts_is_expanded_once(create: Create, engine: Engine, contacts: int) -> None:
    campaign_id = create(contacts)

    assert run_expand(engine, campaign_id) == Done()
    assert run_expand(engine, campaign_id) == Done()

    assert rows(engine, "SELECT count(*), count(DISTINCT contact_id) FROM emails") == [(contacts, contacts)]
    assert rows(engine, "SELECT count(*) FROM jobs WHERE type = 'email.send'") == [(contacts,)]
    assert rows(engine, "SELECT state FROM campaigns") == [("running",)]


def test_an_expansion_that_must_stop_is_handed_back_and_goes_on_where_it_was(create: Create, engine: Engine) -> None:
    campaign_id = create(250)

    assert isinstance(run_expand(engine, campaign_id, looks=1), HandBack)
    assert rows(engine, "SELECT count(*) FROM emails") == [(100,)]

    assert run_expand(engine, campaign_id) == Done()
    assert rows(engine, "SELECT count(*), count(DISTINCT contact_id) FROM emails") == [(250, 250)]


EXPAND_FOR_EVER = """
import sys
from postfleet_workers.campaigns.expansion import Step, expand_chunk
from postfleet_workers.store.session import engine_for, transaction
engine = engine_for(sys.argv[1])
while True:
    with transaction(engine) as connection:
        step = expand_chunk(connection, int(sys.argv[2]), 20).step
    print(step, flush=True)
    if step is Step.FINISHED:
        break
"""


def test_an_expansion_killed_again_and_again_makes_every_email_exactly_once(
    create: Create, engine: Engine, database_url: str
) -> None:
    campaign_id = create(2_000)
    command = [sys.executable, "-c", EXPAND_FOR_EVER, database_url, str(campaign_id)]

    for chunks in (1, 7, 20):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            for _ in range(chunks):
                assert process.stdout.readline() == "made\n"
            process.kill()
    partly = rows(engine, "SELECT count(*) FROM emails")[0][0]
    assert 28 * 20 <= partly < 2_000

    assert run_expand(engine, campaign_id) == Done()

    assert rows(engine, "SELECT count(*), count(DISTINCT contact_id) FROM emails") == [(2_000, 2_000)]
    assert rows(
        engine, "SELECT count(*) FROM emails e FULL JOIN jobs j ON j.id = e.job_id "
        "WHERE j.type IS DISTINCT FROM 'campaign.expand' AND (e.id IS NULL OR j.id IS NULL)"
    ) == [(0,)]  # fmt: skip


def test_two_expansions_at_once_do_not_make_an_email_twice(create: Create, engine: Engine) -> None:
    campaign_id = create(1_000)

    threads = [threading.Thread(target=run_expand, args=(engine, campaign_id), kwargs={"chunk": 50}) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert rows(engine, "SELECT count(*), count(DISTINCT contact_id) FROM emails") == [(1_000, 1_000)]
    assert rows(engine, "SELECT count(*) FROM jobs") == [(1_001,)]


def test_every_chunk_wakes_the_relay(create: Create, engine: Engine, database_url: str) -> None:
    campaign_id = create(10)
    with psycopg.connect(database_url, autocommit=True) as listener:
        listener.execute("LISTEN postfleet_jobs")

        expand(engine, campaign_id, 5)

        assert [n.payload for n in listener.notifies(timeout=10, stop_after=1)] == ["campaign-standard"]


def test_mail_goes_to_its_nodes_by_capacity_and_by_the_route_of_its_site(create: Create, engine: Engine) -> None:
    campaign_id = create(240)
    with engine.begin() as connection:
        for name, limits in (("acme-1", {"perHour": 300, "sites": [{"name": "gmail"}]}), ("acme-2", {"perHour": 100})):
            connection.execute(
                text(
                    "UPDATE sending_nodes SET spec = spec || jsonb_build_object('limits', CAST(:limits AS jsonb)) "
                    "WHERE name = :name"
                ),
                {"name": name, "limits": json.dumps(limits)},
            )
        connection.execute(
            text("UPDATE contacts SET email = replace(email, 'example.org', 'GMail.com') WHERE id % 8 < 4")
        )
    run_expand(engine, campaign_id)
    found = rows(
        engine, "SELECT j.route, e.node, count(*) AS mails FROM jobs j JOIN emails e ON e.job_id = j.id GROUP BY 1, 2"
    )
    counts = {(row.route, row.node): row.mails for row in found}
    assert set(counts) == {("acme-1", "acme-1"), ("acme-1/gmail", "acme-1"), ("acme-2", "acme-2")}
    assert counts["acme-2", "acme-2"] == 60
