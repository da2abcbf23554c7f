"""`postfleet nodes reroute`: a node's unsent mail goes to another, and nothing else does."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import psycopg
import pytest
from sqlalchemy import Engine

from command import Command
from integration.ledger_steps import ask, change, claim, job_row, offer, start_worker
from postfleet_workers.enqueue import CHANNEL
from postfleet_workers.mail import reroute
from postfleet_workers.mail.outbox import NewEmail, send_email
from postfleet_workers.states import WAITING, State

QUEUE = "campaign-standard"
KEY = ("acme", "", "old")


@pytest.fixture
def postfleet(database_url: str, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> Command:
    for tenant in ("acme", "other"):
        change(engine, "INSERT INTO tenants (name) VALUES (:name)", name=tenant)
    for node in ("old", "new"):
        add_node(engine, node)
    return Command(database_url, monkeypatch)


def add_node(engine: Engine, name: str, tenants: Sequence[str] = ()) -> None:
    spec = {"smtp": {"host": "h"}, "identity": {"domain": f"{name}.example"}, "tenants": list(tenants)}
    change(engine, "INSERT INTO sending_nodes (name, spec) VALUES (:name, :spec)", name=name, spec=json.dumps(spec))


def mail(engine: Engine, count: int = 1, *, tenant: str = "acme", state: str = "available") -> list[int]:
    """Mail of node `old`; the ids of its jobs."""
    with engine.begin() as connection:
        emails = [
            send_email(connection, NewEmail(tenant, "ann@example.org", "old", "Hi", "Hello", queue=QUEUE))
            for _ in range(count)
        ]
    change(engine, "UPDATE jobs SET state = :state FROM emails e WHERE job_id = jobs.id AND e.id = ANY(:ids)",
           state=state, ids=emails)  # fmt: skip
    return [row.job_id for row in ask(engine, "SELECT job_id FROM emails WHERE id = ANY(:ids) ORDER BY id", ids=emails)]


def places(engine: Engine) -> dict[int, tuple[str, str]]:
    rows = ask(engine, "SELECT j.id, j.route, e.node FROM jobs j JOIN emails e ON e.job_id = j.id ORDER BY j.id")
    return {row.id: (row.route, row.node) for row in rows}


@pytest.mark.parametrize("state", list(State))
def test_what_waits_is_moved_with_its_mail_and_nothing_else(postfleet: Command, engine: Engine, state: State) -> None:
    (job_id,) = mail(engine, state=state)
    answer = postfleet("nodes", "reroute", "old", "new")
    assert answer.code == 0
    if state in WAITING:
        assert places(engine) == {job_id: ("new", "new")}
        assert answer.out == "1 mail moved from old to new\n"
        return
    assert places(engine) == {job_id: ("old", "old")}
    assert answer.out.startswith("0 mails moved")
    assert ("1 mail being sent by old right now" in answer.out) == (state == State.EXECUTING)


def test_a_message_that_is_on_its_way_by_the_old_road_claims_nothing(postfleet: Command, engine: Engine) -> None:
    (job_id,) = mail(engine)
    start_worker(engine)
    items = offer(engine, KEY, queue=QUEUE)
    assert postfleet("nodes", "reroute", "old", "new").code == 0
    assert claim(engine, items) == []
    again = offer(engine, ("acme", "", "new"), queue=QUEUE)
    assert [job.route for job in claim(engine, again)] == ["new"]
    assert job_row(engine, job_id).attempt == 1


def test_only_the_tenant_that_was_named_is_moved(postfleet: Command, engine: Engine) -> None:
    acme, other = mail(engine), mail(engine, tenant="other")
    answer = postfleet("nodes", "reroute", "old", "new", "--tenant", "acme", "--output", "json")
    assert answer.json == {
        "old": "old", "new": "new", "tenant": "acme", "moved": 1, "sending": 0, "closed": {}, "campaigns": []
    }  # fmt: skip
    assert places(engine) == {acme[0]: ("new", "new"), other[0]: ("old", "old")}


def test_the_mail_of_a_tenant_that_the_node_is_not_open_to_stays_and_is_named(
    postfleet: Command, engine: Engine
) -> None:
    add_node(engine, "acmes", ["acme"])
    mail(engine, 2)
    mail(engine, 3, tenant="other")
    answer = postfleet("nodes", "reroute", "old", "acmes")
    assert answer.out.splitlines() == [
        "2 mails moved from old to acmes",
        "3 mails of tenant other not moved: acmes is not open to it",
    ]


def test_the_mail_of_a_node_that_was_deleted_is_moved(postfleet: Command, engine: Engine) -> None:
    ids = mail(engine, 5)
    change(engine, "DELETE FROM sending_nodes WHERE name = 'old'")
    assert postfleet("nodes", "reroute", "old", "new").out == "5 mails moved from old to new\n"
    assert set(places(engine).values()) == {("new", "new")}
    assert len(ids) == 5


def test_a_campaign_that_will_make_more_is_named(postfleet: Command, engine: Engine) -> None:
    change(
        engine,
        """WITH l AS (INSERT INTO contact_lists (tenant, name) VALUES ('acme', 'all') RETURNING id)
        INSERT INTO campaigns (tenant, name, list_id, sender, nodes, subject, text, state)
        SELECT 'acme', state, l.id, 's@old.example', '{new,old}', 's', 't', state
        FROM l, unnest('{draft,expanding,running,cancelled}'::text[]) AS state""",
    )
    mail(engine)
    answer = postfleet("nodes", "reroute", "old", "new")
    assert answer.out.splitlines()[1] == "campaigns that may still make mail for old: draft, expanding"


def test_many_are_moved_page_by_page_past_what_others_have_locked_and_the_relay_is_woken(
    postfleet: Command, engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = mail(engine, 25)
    monkeypatch.setattr(reroute, "PAGE", 10)
    told: list[int] = []
    with psycopg.connect(database_url, autocommit=True) as listener, psycopg.connect(database_url) as holder:
        listener.execute(f"LISTEN {CHANNEL}")
        holder.execute("SELECT FROM jobs WHERE id = %s FOR UPDATE", [ids[3]])

        def on_page(moved: int) -> None:
            told.append(moved)
            if moved == 24:
                holder.rollback()

        with engine.begin() as connection:
            plan = reroute.plan(connection, "old", "new")
        done = reroute.carry_out(engine, plan, on_page)
        woken = {note.payload for note in listener.notifies(timeout=5, stop_after=1)}
    assert (done.moved, told, plan.movable) == (25, [10, 20, 24, 25], 25)
    assert set(places(engine).values()) == {("new", "new")}
    assert woken == {QUEUE}


def test_jobs_that_are_no_mail_are_left_alone(postfleet: Command, engine: Engine) -> None:
    change(engine, "INSERT INTO jobs (type, queue) VALUES ('import', 'imports')")
    answer = postfleet("nodes", "reroute", "", "new")
    assert (answer.code, answer.err) == (2, "postfleet: give the name of the node that has the mail\n")
    assert ask(engine, "SELECT route FROM jobs") == [("",)]


@pytest.mark.parametrize(
    ("args", "line"),
    [
        pytest.param(("old", "old"), "'old' twice", id="the same"),
        pytest.param(("old", "nowhere"), "sending node 'nowhere' does not exist", id="no such new node"),
        pytest.param(("nowhere", "new"), "'nowhere' is no sending node, and no unsent mail has it", id="nobody's mail"),
        pytest.param(("old", "new", "--tenant", "nobody"), "tenant 'nobody' does not exist", id="no such tenant"),
        pytest.param(("old", "new", "--tenant", "other"), "'new' is not open to tenant 'other'", id="not open"),
        pytest.param(("old",), "Missing argument 'NEW'", id="one name"),
    ],
)
def test_what_cannot_be_is_one_line_and_changes_nothing(
    postfleet: Command, engine: Engine, args: tuple[Any, ...], line: str
) -> None:
    (job_id,) = mail(engine)
    change(engine, """UPDATE sending_nodes SET spec = spec || '{"tenants": ["acme"]}' WHERE name = 'new'""")
    answer = postfleet("nodes", "reroute", *args)
    assert (answer.code, answer.err.count("\n")) == (2, 1)
    assert line in answer.err
    assert places(engine) == {job_id: ("old", "old")}


def test_a_site_stays_in_the_route_only_where_it_limits_the_new_node(postfleet: Command, engine: Engine) -> None:
    sites = json.dumps([{"name": "gmail", "perMinute": 5}])
    change(engine, "UPDATE sending_nodes SET spec = spec || jsonb_build_object('limits', "
                   "jsonb_build_object('sites', CAST(:sites AS jsonb))) WHERE name = 'new'", sites=sites)  # fmt: skip
    at_gmail, at_yahoo, elsewhere = mail(engine, 3)
    for job_id, route in ((at_gmail, "old/gmail"), (at_yahoo, "old/yahoo")):
        change(engine, "UPDATE jobs SET route = :route WHERE id = :id", route=route, id=job_id)
    assert postfleet("nodes", "reroute", "old", "new").out == "3 mails moved from old to new\n"
    assert places(engine) == {at_gmail: ("new/gmail", "new"), at_yahoo: ("new", "new"), elsewhere: ("new", "new")}
