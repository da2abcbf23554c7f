"""Campaigns on a real database: creation's checks, exactly-once expansion, pause, cancel and progress."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml
from sqlalchemy import Engine, text

from command import Command
from postfleet_workers.actors.campaign_expand import campaign_expand
from postfleet_workers.campaigns.expansion import Step, expand_chunk
from postfleet_workers.jobs import Done, HandBack, Job, Outcome
from postfleet_workers.mail.outbox import NewEmail, send_email

QUICKSTART = Path(__file__).parents[2] / "examples/01-quickstart"
CAMPAIGN = {
    "name": "spring",
    "tenant": "acme",
    "list": "customers",
    "from": "Acme <news@acme.example>",
    "nodes": ["acme-1", "acme-2"],
    "subject": "Hello {{ contact.first_name }}",
    "text": "Hi {{ contact.first_name }}",
}
Create = Callable[..., int]


@pytest.fixture
def postfleet(database_url: str, monkeypatch: pytest.MonkeyPatch) -> Command:
    return Command(database_url, monkeypatch)


@pytest.fixture
def create(postfleet: Command, engine: Engine, tmp_path: Path) -> Create:
    """Contacts on a list, two nodes, a started or drafted campaign; gives its id."""

    def create(contacts: int, *, started: bool = True) -> int:
        people = tmp_path / "contacts.csv"
        people.write_text("\n".join(["email,first_name", *(f"c{i}@example.org,C{i}" for i in range(contacts))]))
        file = tmp_path / "campaign.yaml"
        file.write_text(yaml.safe_dump(CAMPAIGN))
        add_nodes(engine, "acme-1", "acme-2")
        assert postfleet("contacts", "import", people, "--tenant", "acme", "--list", "customers").code == 0
        campaign_id: int = postfleet("campaigns", "create", file, "--output", "json").json["id"]
        if started:
            assert postfleet("campaigns", "start", "spring", "--tenant", "acme").code == 0
        return campaign_id

    return create


def add_nodes(engine: Engine, *names: str, tenants: tuple[str, ...] = ()) -> None:
    with engine.begin() as connection:
        for name in names:
            spec = {
                "smtp": {"host": "localhost"}, "identity": {"domain": f"{name}.example"}, "tenants": list(tenants)
            }  # fmt: skip
            connection.execute(
                text("INSERT INTO sending_nodes (name, spec) VALUES (:name, :spec)"),
                {"name": name, "spec": json.dumps(spec)},
            )


def rows(engine: Engine, sql: str, **parameters: Any) -> list[Any]:
    with engine.connect() as connection:
        return list(connection.execute(text(sql), parameters))


def expand(engine: Engine, campaign_id: int, limit: int = 5_000) -> Step:
    with engine.begin() as connection:
        return expand_chunk(connection, campaign_id, limit).step


class Running:
    """A run that stops after so many looks."""

    worker = "test"

    def __init__(self, looks: int = 1_000_000) -> None:
        self.looks = looks

    def stopping(self) -> bool:
        self.looks -= 1
        return self.looks < 0

    def begun(self) -> Sequence[Job]:
        return ()

    def dot(self, *jobs: Job) -> bool:
        return True

    def reply(self, job: Job, detail: str) -> None: ...

    def now(self) -> datetime:
        return datetime.now(UTC)


def run_expand(engine: Engine, campaign_id: int, *, chunk: int = 100, looks: int = 1_000_000) -> Outcome:
    now = datetime.now(UTC)
    args = {"campaign_id": campaign_id}
    job = Job(1, "campaign.expand", "q", "acme", "", args, 1, 3, 0, 1, now, None, now, "c", "e")
    (outcome,) = campaign_expand(engine, chunk).perform([job], Running(looks))
    return outcome


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


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        pytest.param({"list": "nobody"}, "list: tenant 'acme' has no list 'nobody'; known are customers", id="list"),
        pytest.param(
            {"tenant": "beta"}, "list: tenant 'beta' has no list 'customers'; known are none yet", id="tenant"
        ),
        pytest.param({"nodes": ["acme-9"]}, "nodes[0]: no sending node 'acme-9'; known are acme-1, closed", id="node"),
        pytest.param(
            {"nodes": ["closed"]}, "nodes[0]: 'closed' does not serve tenant 'acme', only x", id="closed node"
        ),
        pytest.param(
            {"text": "\n{{ contact.frist_name }}"}, "text, line 2: unknown variable 'contact.frist_name'", id="variable"
        ),
        pytest.param({"html": "{% if a %}"}, "html, line 1: ", id="syntax"),
        pytest.param({"colour": "red"}, "colour: unknown field", id="unknown field"),
    ],
)
def test_a_campaign_that_cannot_work_is_one_line_and_is_not_stored(
    postfleet: Command, engine: Engine, tmp_path: Path, changes: dict[str, Any], line: str
) -> None:
    add_nodes(engine, "acme-1")
    add_nodes(engine, "closed", tenants=("x",))
    people = tmp_path / "contacts.csv"
    people.write_text("email,first_name\na@example.org,A\n")
    postfleet("contacts", "import", people, "--tenant", "acme", "--list", "customers")
    file = tmp_path / "campaign.yaml"
    file.write_text(yaml.safe_dump({**CAMPAIGN, "nodes": ["acme-1"], **changes}))

    answer = postfleet("campaigns", "create", file)

    assert answer.code == 2
    assert answer.err.startswith(f"postfleet: {file}: {line}")
    assert answer.err.count("\n") == 1
    assert rows(engine, "SELECT count(*) FROM campaigns") == [(0,)]


@pytest.mark.parametrize(
    ("content", "line"),
    [(None, "No such file or directory"), (b"name: \xff", "byte 6 is not UTF-8"), (b"name: [", "line 1, column 8")],
)
def test_a_campaign_file_that_cannot_be_read_is_one_line(
    postfleet: Command, tmp_path: Path, content: bytes | None, line: str
) -> None:
    file = tmp_path / "campaign.yaml"
    if content is not None:
        file.write_bytes(content)

    answer = postfleet("campaigns", "create", file)

    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert f"{file}: {line}" in answer.err


def test_a_name_is_used_once_per_tenant(create: Create, postfleet: Command, tmp_path: Path) -> None:
    create(1, started=False)

    answer = postfleet("campaigns", "create", tmp_path / "campaign.yaml")

    assert answer.code == 2
    assert "tenant acme has a campaign 'spring' already" in answer.err


def test_the_quickstart_is_imported_created_and_expanded(postfleet: Command, engine: Engine) -> None:
    add_nodes(engine, "acme-1")

    imported = postfleet(
        "contacts", "import", QUICKSTART / "contacts.csv", "--tenant", "acme", "--list", "customers", "--output", "json"
    ).json
    assert (imported["added"], imported["rejected"], imported["duplicates"]) == (10_000, 0, 0)
    created = postfleet("campaigns", "create", QUICKSTART / "campaign.yaml", "--output", "json").json
    assert (created["name"], created["state"], created["total"]) == ("welcome", "draft", 10_000)
    postfleet("campaigns", "start", "welcome", "--tenant", "acme")

    assert run_expand(engine, created["id"], chunk=5_000) == Done()

    assert rows(engine, "SELECT count(*) FROM emails") == [(10_000,)]


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


def test_mail_without_a_node_goes_to_one_that_is_open_to_its_tenant(engine: Engine) -> None:
    add_nodes(engine, "others", tenants=("other",))
    add_nodes(engine, "mine", "also-mine")
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenants (name) VALUES ('acme')"))
        for _ in range(2):
            for number in range(20):
                send_email(connection, NewEmail("acme", f"u{number}@example.org", "", "Hi", "Hello"))
    found = Counter((row.recipient, row.node) for row in rows(engine, "SELECT recipient, node FROM emails"))
    assert set(found.values()) == {2}, "the same recipient has the same node"
    assert {node for _, node in found} == {"mine", "also-mine"}


@pytest.mark.parametrize(
    ("asked", "settings", "warning"),
    [
        pytest.param({}, set(), "", id="nothing asked"),
        pytest.param({"oneClick": True, "trackOpens": True}, {"PUBLIC_URL", "SECRET_KEY"}, "", id="both are set"),
        pytest.param(
            {"oneClick": True},
            {"SECRET_KEY"},
            "oneClick: POSTFLEET_PUBLIC_URL is not set here; where workers lack it too, mails go out without the "
            "one-click link to unsubscribe; set POSTFLEET_PUBLIC_URL for workers and `postfleet web` before you start "
            "the campaign",
            id="no URL",
        ),
        pytest.param(
            {"trackOpens": True, "trackClicks": True},
            set(),
            "trackOpens and trackClicks: POSTFLEET_PUBLIC_URL and POSTFLEET_SECRET_KEY are not set here; where workers "
            "lack them too, mails go out without counted opens and counted clicks; set POSTFLEET_PUBLIC_URL and "
            "POSTFLEET_SECRET_KEY for workers and `postfleet web` before you start the campaign",
            id="neither",
        ),
    ],
)
def test_a_campaign_whose_links_nobody_could_make_is_created_with_a_warning(
    create: Create,
    postfleet: Command,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asked: dict[str, Any],
    settings: set[str],
    warning: str,
) -> None:
    create(1, started=False)
    for name, value in {"PUBLIC_URL": "https://mail.acme.example", "SECRET_KEY": "k" * 32}.items():
        monkeypatch.setenv(f"POSTFLEET_{name}", value if name in settings else "")
    file = tmp_path / "linked.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN | {"name": "linked"} | asked))
    answer = postfleet("campaigns", "create", file, "--output", "json")
    assert answer.json["name"] == "linked"
    assert answer.err == (f"postfleet: warning: {warning}\n" if warning else "")


def test_a_setting_of_links_that_cannot_work_is_told_before_the_campaign_is_there(
    create: Create, postfleet: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create(1, started=False)
    monkeypatch.setenv("POSTFLEET_SECRET_KEY", "short")
    file = tmp_path / "linked.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN | {"name": "linked", "oneClick": True}))
    answer = postfleet("campaigns", "create", file)
    assert (answer.code, "POSTFLEET_SECRET_KEY has 5 characters" in answer.err) == (2, True)
    assert [row["name"] for row in postfleet("campaigns", "list", "--output", "json").json] == ["spring"]
