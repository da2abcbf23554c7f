"""A campaign on a real database, and its expansion in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from sqlalchemy import Engine, text

from command import Command
from postfleet_workers.actors.campaign_expand import campaign_expand
from postfleet_workers.campaigns.expansion import Step, expand_chunk
from postfleet_workers.jobs import Job, Outcome

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


def a_campaign(postfleet: Command, engine: Engine, folder: Path, contacts: int, *, started: bool = True) -> int:
    """Contacts on a list, two nodes, a started or drafted campaign; gives its id."""
    people = folder / "contacts.csv"
    people.write_text("\n".join(["email,first_name", *(f"c{i}@example.org,C{i}" for i in range(contacts))]))
    file = folder / "campaign.yaml"
    file.write_text(yaml.safe_dump(CAMPAIGN))
    add_nodes(engine, "acme-1", "acme-2")
    assert postfleet("contacts", "import", people, "--tenant", "acme", "--list", "customers").code == 0
    campaign_id: int = postfleet("campaigns", "create", file, "--output", "json").json["id"]
    if started:
        assert postfleet("campaigns", "start", "spring", "--tenant", "acme").code == 0
    return campaign_id


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

    def tell(self) -> None: ...

    def took(self, job: Job, seconds: float) -> None: ...

    def now(self) -> datetime:
        return datetime.now(UTC)


def run_expand(engine: Engine, campaign_id: int, *, chunk: int = 100, looks: int = 1_000_000) -> Outcome:
    now = datetime.now(UTC)
    args = {"campaign_id": campaign_id}
    job = Job(1, "campaign.expand", "q", "acme", "", args, 1, 3, 0, 1, now, None, now, "c", "e")
    (outcome,) = campaign_expand(engine, chunk).perform([job], Running(looks))
    return outcome
