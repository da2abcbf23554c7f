"""What is looked for before a campaign is stored, on a real database: its file, list, nodes, templates, links."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine

from command import Command
from integration.campaigning import CAMPAIGN, Create, a_campaign, add_nodes, rows, run_expand
from postfleet_workers.jobs import Done

QUICKSTART = Path(__file__).parents[2] / "examples/01-quickstart"


@pytest.fixture
def create(postfleet: Command, engine: Engine, tmp_path: Path) -> Create:
    return partial(a_campaign, postfleet, engine, tmp_path)


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
        pytest.param(
            {"unsubscribeUrl": "acme.example/leave/{{ contact.first_name }}"},
            "cannot be made for a@example.org: List-Unsubscribe: 'acme.example/leave/A' is not a URL; write https://",
            id="link",
        ),
        pytest.param(
            {"text": "{{ 1 | divided_by: 0 }}"}, "cannot be made for a@example.org: text, line 1: ", id="division"
        ),
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
